"""Modules of the standard library are found wherever a platform keeps them."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

COMPILED = Path(sysconfig.get_path("stdlib"), "lib-dynload")
FUNCTION = """
import sys
from cloudknot.program.program import make_program
from hashlib import sha256
import _csv, csv, decimal, sqlite3

def digest(data):
    import _socket
    return sha256(data), _csv.reader, csv.reader, decimal.Decimal, sqlite3.connect, _socket.socket

program = make_program(digest)
assert not program.modules, program.modules
assert not program.requirements, program.requirements
assert _csv.__file__.startswith(sys.argv[1]), _csv.__file__
"""


def run(code, folder, *path):
    """Run code with some folders before those of the standard library."""
    start = f"import sys\nsys.path[:0] = {[str(entry) for entry in path]}\n"
    command = [sys.executable, "-c", f"{start}{code}", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.skipif(not COMPILED.is_dir(), reason="this Python has all its modules in one file")
def test_compiled_modules_in_a_folder_of_their_own(tmp_path):
    shutil.copytree(COMPILED, tmp_path / "DLLs")
    answer = run(FUNCTION, tmp_path, tmp_path / "DLLs")
    assert answer.returncode == 0, answer.stderr


def test_source_modules_in_a_zip_file(tmp_path):
    source = Path(sysconfig.get_path("stdlib"))
    for name in ("colorsys", "quopri"):
        shutil.copy(source / f"{name}.py", tmp_path / f"{name}.py")
    archive = tmp_path / "python311.zip"
    import zipfile

    with zipfile.PyZipFile(str(archive), "w") as file:
        file.writepy(str(tmp_path / "colorsys.py"))
        file.writepy(str(tmp_path / "quopri.py"))
    (tmp_path / "colorsys.py").unlink()
    (tmp_path / "quopri.py").unlink()
    code = """
import colorsys
from cloudknot.program.program import make_program
from quopri import encodestring
assert colorsys.__file__.startswith(sys.argv[1]), colorsys.__file__
def hue(colour):
    return colorsys.rgb_to_hsv(*colour), encodestring(b"x")
program = make_program(hue)
assert not program.modules and not program.requirements, program
"""
    answer = run(code, tmp_path, archive)
    assert answer.returncode == 0, answer.stderr


def test_own_module_with_a_name_of_the_standard_library_travels(tmp_path):
    (tmp_path / "colorsys.py").write_text("def hue(colour):\n    return 1\n", encoding="utf-8")
    code = """
import colorsys
from cloudknot.program.program import make_program
def call(colour):
    return colorsys.hue(colour)
assert list(make_program(call).modules) == ["colorsys.py"]
"""
    answer = run(code, tmp_path, tmp_path)
    assert answer.returncode == 0, answer.stderr
