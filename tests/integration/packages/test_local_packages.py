"""Local packages of each build backend run in jobs. The strangers of the same names in an index do not.

Each way of installation has an environment of its own, where a script makes a knot with an embedded cloud.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cloudknot.program.packages import uv
from tests.helpers.paths import ROOT
from tests.integration.packages.index import wheel
from tests.integration.packages.labs import LABS, Lab, compiled_package, namespace_package

MODULES = [lab.module for lab in LABS]
NAMES = [*(lab.name for lab in LABS), "lab-space", "lab-fast"]
IMPORTS = "".join(f"    from {module}.config import LIMIT as LIMIT_{module}\n" for module in MODULES)
SCRIPT = f"""\
import json, sys
import cloudknot as ck

def probe(sample):
    import importlib.metadata, importlib.resources, subprocess, sys
    import fastlab._core, lab_uv, labspace.tools, uses_lab
{IMPORTS}
    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()

    tables = [importlib.resources.files(module) / "data" / "table.csv" for module in {MODULES}]
    return {{
        "limits": [{", ".join(f"LIMIT_{module}" for module in MODULES)}],
        "same class": isinstance(sample, lab_uv.Sample),
        "through the index": uses_lab.LIMIT,
        "compiled": fastlab._core.two(),
        "namespace": labspace.tools.WHERE,
        "versions": [importlib.metadata.version(name) for name in {NAMES}],
        "tables": [table.read_text() for table in tables],
        "modules": [output(sys.executable, "-m", module) for module in {MODULES}],
        "scripts": [output(f"{{name}}-run") for name in {NAMES[: len(LABS)]}],
    }}

if __name__ == "__main__":
    import lab_uv

    with ck.LocalCloud(sys.argv[1], vcpus=2) as cloud:
        knots = ck.Knot(name="probe", func=probe, cloud=cloud), ck.Knot(name="probe", cloud=cloud)
        print(json.dumps([knot.map([lab_uv.Sample()], progress=False).result()[0] for knot in knots]))
"""


class Environment:
    """A virtual environment with cloudknot, in which a person installs packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        _uv("venv", "--python", sys.executable, str(folder / "env"))
        (site,) = (folder / "env" / "lib").glob("*/site-packages")
        # cloudknot and its needs, as they are installed for these tests.
        (site / "base.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        (folder / "job.py").write_text(SCRIPT)

    def install(self, *arguments: str) -> None:
        _uv("pip", "install", "--quiet", "--no-deps", "--python", str(self.python), *arguments)

    def run(self, strangers: Path) -> list:
        """Run the script in an empty cloud, where uv and pip know the strangers. Return its output."""
        variables = {name: str(strangers) for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS")}
        run = subprocess.run(
            [self.python, "job.py", str(self.folder / "cloud")],
            cwd=self.folder,
            env={**_environment(), "XDG_CACHE_HOME": str(self.folder / "cache"), **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(run.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    # The tests of locks begin with an empty cache. Here it would only take longer.
    return {name: value for name, value in os.environ.items() if name not in ("UV_CACHE_DIR", "PYTHONPATH")}


def _uv(*arguments: str) -> None:
    command = [uv.find(), *arguments]
    subprocess.run(command, check=True, timeout=600, capture_output=True, env=_environment())


@pytest.fixture
def strangers(tmp_path):
    """Return a folder of wheels with the names of the local packages, in the same version and in a later one.

    It has also a package, uses-lab, that needs one of them.
    """
    folder = tmp_path / "strangers"
    folder.mkdir()
    code = "from lab_deep.config import LIMIT\n"
    filename, content = wheel("uses-lab", "1.0", requires=["lab-deep>=0.1"], code=code)
    (folder / filename).write_bytes(content)
    for name in [*NAMES, "lab-deep"]:
        for version in ("0.1", "9.0"):
            filename, content = wheel(name, version, code="raise SystemExit('a stranger')\n")
            (folder / filename).write_bytes(content)
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("option", ["--editable", "--no-cache"])
def test_job_has_local_packages_of_each_backend_and_no_stranger(tmp_path, strangers, option):
    environment = Environment(tmp_path)
    projects = [lab.write(tmp_path / "projects") for lab in LABS]
    projects += [namespace_package(tmp_path / "projects"), compiled_package(tmp_path / "projects")]
    # The script does not import this one. A package of the index needs it.
    projects.append(Lab("lab-deep", "lab_deep", "uv_build", "src").write(tmp_path / "projects"))
    environment.install("--no-index", "--find-links", str(strangers), "uses-lab")
    for project in projects:
        environment.install(option, str(project))
    count = len(LABS)
    expected = {
        "same class": True,
        "through the index": 3,
        "limits": [3] * count,
        "compiled": 2,
        "namespace": "here",
        "versions": ["0.1"] * len(NAMES),
        "tables": ["1,2\n"] * count,
        "modules": ["here"] * count,
        "scripts": ["here"] * count,
    }
    # From the knot with its function, and from the knot found by name.
    assert environment.run(strangers) == [expected, expected]
