"""Colleagues with different machines get one image for the same program: the tag is the same."""

import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from cloudknot.image.directory import executables
from cloudknot.image.docker_image import DockerImage
from cloudknot.program.packages.wheels.build import build_wheel
from tests.helpers.functions import square
from tests.helpers.images import image_in
from tests.helpers.paths import ROOT

SCRIPT = "#!/bin/sh\nprintf 'it runs'\n"


def work_directory(folder):
    """Write a work directory with a person's own files."""
    image = DockerImage("squares", square, dir_name=folder)
    (folder / "tools").mkdir()
    script = folder / "tools" / "run.sh"
    script.write_bytes(SCRIPT.encode())
    script.chmod(0o755)
    (folder / "tools" / "lab.py").write_bytes(b"N = 1\n")
    (folder / "table.csv").write_bytes(b"a,b\n1,2\n")
    (folder / unicodedata.normalize("NFC", "données.txt")).write_bytes(b"1\n")
    return image


def with_leftovers(folder):
    for place in (folder, folder / "tools", folder / "program"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".run.sh.swp", "run.sh~", "._run.sh"):
            (place / name).write_bytes(b"\0\1")
        (place / "__pycache__").mkdir()
        (place / "__pycache__" / "lab.cpython-311.pyc").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "index").touch()


def with_line_endings_of_windows(folder):
    for path in folder.rglob("*"):
        # git's autocrlf changes every file that looks like text.
        if path.is_file() and path.suffix not in (".pkl", ".csv", ".json") and b"\0" not in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / unicodedata.normalize("NFC", "données.txt")).write_bytes(b"1\n")


def saved_with_notepad(folder):
    for name in ("Dockerfile", "requirements.txt", "tools/run.sh", "tools/lab.py"):
        text = (folder / name).read_text(encoding="utf-8").replace("\n", "\r\n")
        (folder / name).write_bytes(text.encode("utf-8-sig" if name != "requirements.txt" else "utf-16"))


def listed_by_macos(folder):
    name = "données.txt"
    old = folder / unicodedata.normalize("NFC", name)
    old.rename(folder / unicodedata.normalize("NFD", name))


def without_modes(folder):
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def on_a_disk_of_windows_in_wsl(folder):
    for path in folder.rglob("*"):
        path.chmod(0o777)


MACHINES = [
    *(with_leftovers, with_line_endings_of_windows, saved_with_notepad, listed_by_macos),
    *(without_modes, on_a_disk_of_windows_in_wsl),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_a_work_directory_has_one_tag(machine, tmp_path):
    first = image_in(work_directory(tmp_path / "linux"))
    shutil.copytree(tmp_path / "linux", tmp_path / "other")
    machine(tmp_path / "other")
    read_again = image_in(DockerImage("squares", dir_name=tmp_path / "other"))
    assert read_again.tag == first.tag
    assert read_again.files == first.files
    assert read_again.executables == first.executables == {"tools/run.sh"}
    # Nor does anything count as edited, when the program is made anew there.
    assert image_in(DockerImage("squares", square, dir_name=tmp_path / "other")).tag == first.tag
    assert not read_again.needs_engine


def test_a_change_by_the_person_changes_the_tag(tmp_path):
    image = work_directory(tmp_path / "d")
    tags = {image_in(image).tag}
    for name, content in (("table.csv", b"a,b\r\n1,2\r\n"), ("tools/run.sh", b"#!/bin/sh\n"), ("new", b"")):
        (tmp_path / "d" / name).write_bytes(content)
        tags.add(image_in(image).tag)
    assert len(tags) == 4


def test_a_script_saved_on_windows_runs(tmp_path):
    work_directory(tmp_path / "d")
    saved_with_notepad(tmp_path / "d")
    content = image_in(DockerImage("squares", dir_name=tmp_path / "d")).files["tools/run.sh"]
    script = tmp_path / "run.sh"
    script.write_bytes(content)
    script.chmod(0o755)
    assert subprocess.run([str(script)], capture_output=True, check=True).stdout == b"it runs"


def test_windows_keeps_no_modes_but_scripts_stay_executable(tmp_path):
    work_directory(tmp_path / "d")
    without_modes(tmp_path / "d")
    (tmp_path / "d" / "solver").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9))
    assert executables(tmp_path / "d") == ["solver", "tools/run.sh"]


DIGEST = """
import sys
import helper, pkg.deep
from cloudknot.program.program import make_program
from cloudknot.program.script import make_script

def call(x):
    return helper.double(x), pkg.deep.N

program, script = make_program(call), make_script("tool.py")
print(program.digest, script.digest, sorted(program.modules), [*script.modules])
"""
SOURCES = {
    "helper.py": '"""Help."""\nTEXT = """a\nb"""\n\n\ndef double(x):\n    return 2 * x\n',
    "pkg/__init__.py": "",
    "pkg/deep.py": "N = 5\n",
    "tool.py": "import helper\nprint(helper.double(3))\n",
}


def digests(folder: Path, change):
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(change(text))
    (folder / "session.py").write_bytes(change(DIGEST))
    answer = subprocess.run(
        [sys.executable, "session.py"], cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_functions_scripts_and_local_modules_have_one_digest(tmp_path):
    linux = digests(tmp_path / "linux", str.encode)
    windows = digests(tmp_path / "windows", lambda text: text.replace("\n", "\r\n").encode())
    notepad = digests(tmp_path / "notepad", lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert linux == windows == notepad
    assert "helper.py" in linux


PROJECT = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "mylab"\nversion = "1"\n[tool.setuptools]\npackages = ["mylab"]\n'
    '[tool.setuptools.package-data]\nmylab = ["*"]\n',
    "mylab/__init__.py": "N = 1\n",
    "mylab/run.sh": SCRIPT,
    "mylab/table.csv": "a,b\n",
}


def wheel_of(folder, machine):
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    (folder / "mylab" / "run.sh").chmod(0o755)
    machine(folder)
    return build_wheel(folder, "mylab", "1", roots=(folder,))


def test_a_local_package_has_one_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def other(folder):
        (folder / "mylab" / ".DS_Store").write_bytes(b"\0")
        (folder / "mylab" / "Thumbs.db").write_bytes(b"\0")
        for name in ("__init__.py", "run.sh"):
            path = folder / "mylab" / name
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
            path.chmod(0o644)

    linux = wheel_of(tmp_path / "linux", lambda folder: None)
    windows = wheel_of(tmp_path / "windows", other)
    assert linux.filename == windows.filename
    assert linux.content == windows.content


TAG = """
import sys
sys.path.insert(0, sys.argv[1])
import helper, pkg.deep
from cloudknot.image.docker_image import DockerImage
from tests.helpers.images import image_in

def call(x):
    return helper.double(x), pkg.deep.N

for choices in ({"func": call}, {"script_path": f"{sys.argv[1]}/tool.py"}):
    image = image_in(DockerImage("squares", dir_name=f"{sys.argv[1]}/{len(choices)}{min(choices)}", **choices))
    print(image.tag, sorted(image.files))
"""


def test_a_session_on_windows_makes_the_same_image(tmp_path):
    tags = set()
    for name, start in (("linux", ""), ("windows", "import tests.integration.sessions.platforms.as_windows\n")):
        for path, text in SOURCES.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(text.replace("\n", "\n" if name == "linux" else "\r\n").encode())
        command = [sys.executable, "-c", start + TAG, str(tmp_path / name)]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        tags.add(answer.stdout)
    assert len(tags) == 1
