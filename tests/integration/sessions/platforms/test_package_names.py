"""Programs made on Windows or macOS name the packages that Linux has."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.integration.sessions.platforms.test_windows_imports import on_windows


@pytest.fixture
def site(tmp_path):
    """Return a function that installs a distribution into a folder, and that folder."""
    folder = tmp_path / "site-packages"

    def install(name, version, module, *needs, asked=False):
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        (info / "RECORD").write_text(f"{module}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
        (info / "INSTALLER").write_text("pip\n")
        if asked:
            (info / "REQUESTED").touch()
        (folder / module).mkdir(exist_ok=True)
        (folder / module / "__init__.py").touch()

    install.folder = folder
    return install


def run(site, code):
    start = f"import sys; sys.path.insert(0, {str(site.folder)!r})\nimport warnings\nwarnings.simplefilter('always')\n"
    script = site.folder.parent / "session.py"
    script.write_text(start + code, encoding="utf-8")
    command = [sys.executable, str(script)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=site.folder.parent, env={"PYTHONPATH": str(ROOT)}
    )


PROGRAM = """
from cloudknot.program.program import make_program
def train(x):
    {}
print(*make_program(train).requirements)
"""


@pytest.mark.parametrize("name", ["tensorflow-intel", "tensorflow-macos"])
def test_tensorflow_has_its_name_on_linux(site, name):
    site(name, "2.15.0", "tensorflow")
    answer = run(site, PROGRAM.format("import tensorflow.keras as keras; return keras"))
    assert answer.stdout.split() == ["tensorflow==2.15.0"], answer.stderr


@pytest.mark.parametrize(
    ("distribution", "module", "system"),
    [("pywin32", "win32api", "Windows"), ("pyobjc-framework-Quartz", "Quartz", "macOS")],
)
def test_import_that_linux_lacks_is_refused(site, distribution, module, system):
    site(distribution, "306", module)
    answer = run(site, PROGRAM.format(f"import {module}; return {module}"))
    assert f"imports {module}, which only {system} has" in answer.stderr
    assert answer.returncode == 1


@pytest.mark.parametrize("module", ["winreg", "msvcrt"])
def test_module_of_the_standard_library_of_windows_is_refused(site, module):
    answer = run(site, PROGRAM.format(f"import {module}; return {module}"))
    assert f"imports {module}, which only Windows has" in answer.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import sys\n    if sys.platform == 'win32': import win32api, winreg",
        "import os\n    if os.name == 'nt':\n        import win32api\n    else:\n        import fcntl",
        "import platform\n    if platform.system() != 'Windows': pass\n    else: import winreg",
        "IS_WINDOWS = False\n    if IS_WINDOWS: import msvcrt",
        "try:\n        import msvcrt, win32api\n    except ImportError: pass",
    ],
)
def test_import_under_a_condition_is_no_need(site, code):
    site("pywin32", "306", "win32api")
    answer = run(site, PROGRAM.format(f"{code}\n    return x"))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []


def test_script_that_linux_cannot_run_is_refused(site):
    (site.folder.parent / "tool.py").write_text("import winreg\n")
    answer = run(site, "from cloudknot.program.script import make_script; make_script('tool.py')")
    assert "The script tool.py imports winreg, which only Windows has" in answer.stderr


def test_requirements_of_pip_freeze_on_windows(site):
    site.folder.mkdir()
    lines = "numpy==2.1.0\npywin32==306\ntensorflow-intel==2.15.0\ncolorama==0.4.6 ; sys_platform == 'win32'\n"
    (site.folder.parent / "requirements.txt").write_text(lines, encoding="utf-16")
    code = "from cloudknot.program.requirements import from_user; print(*from_user('requirements.txt').lines)"
    answer = run(site, code)
    assert answer.stdout.split() == ["numpy==2.1.0", "tensorflow==2.15.0"], answer.stderr
    assert "lists pywin32, which only Windows has" in answer.stderr
    assert "colorama" not in answer.stderr


EVERYTHING = """
from cloudknot.program.requirements import Requirements, with_everything_here
import sys
names = {line.partition("==")[0] for line in with_everything_here(Requirements(())).lines}
print(*sorted(names & set(sys.argv[2].split())))
"""


def test_everything_that_is_installed_on_windows(site):
    site("lab-clicks", "1", "lab_clicks", 'lab-colours; sys_platform == "win32"', "lab-lines")
    site("lab-colours", "1", "lab_colours")
    site("lab-lines", "1", "lab_lines")
    site("lab-asked", "1", "lab_asked", asked=True)
    site("lab-windows", "1", "lab_windows", 'lab-asked; sys_platform == "win32"')
    site("pywin32", "306", "win32api", asked=True)
    site("tensorflow-intel", "2.15.0", "tensorflow")
    wanted = "lab-clicks lab-colours lab-lines lab-asked lab-windows pywin32 tensorflow-intel tensorflow"
    code = f"import sys; sys.path.insert(0, sys.argv[1])\n{EVERYTHING}"
    answer = on_windows(code, str(site.folder), wanted)
    assert answer.stdout.split() == ["lab-asked", "lab-clicks", "lab-lines", "lab-windows", "tensorflow"], (
        answer.stderr
    )
