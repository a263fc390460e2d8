"""On Windows, every module of the client can be imported, and mypy finds no name that Windows lacks in it."""

import subprocess
import sys
from pathlib import Path

import pytest

import cloudknot
from tests.helpers.paths import ROOT

PACKAGE = Path(cloudknot.__file__).parent
ELSEWHERE = ("worker", "local")
"""Folders whose code runs in jobs, or in the server of the embedded cloud."""
SHARED = ("worker/wire", "worker/s3")
"""The parts of them that a session uses."""


def modules():
    """Return the names of all modules that a session on Windows may import."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE).as_posix()
        if inner.startswith(ELSEWHERE) and not inner.startswith(SHARED):
            continue
        if inner != "__main__.py":
            names.append(".".join(["cloudknot", *Path(inner).with_suffix("").parts]).removesuffix(".__init__"))
    return [*names, "cloudknot.worker", "cloudknot.local", "cloudknot.local.session.cloud"]


def on_windows(code, *arguments, **options):
    """Run code in a Python with the traits of Windows."""
    command = [sys.executable, "-c", f"import tests.integration.sessions.platforms.as_windows\n{code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **options)


def test_every_module_of_the_client_can_be_imported():
    code = "import sys, importlib\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\nprint(len(sys.argv))"
    answer = on_windows(code, *modules())
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) == len(modules()) + 1 > 150


def test_the_simulation_refuses_what_windows_lacks():
    for code in ("import fcntl", "import os; os.fork", "import signal; signal.SIGKILL", "import select; select.poll"):
        assert on_windows(code).returncode == 1


@pytest.mark.parametrize("platform", ["win32", "darwin"])
@pytest.mark.large
def test_mypy_finds_no_name_that_the_platform_lacks(platform, tmp_path):
    parts = [part for name in modules() for part in ("--module", name)]
    if platform == "darwin":
        parts = ["--package", "cloudknot"]
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--follow-imports", "silent"]
    answer = subprocess.run(
        [*command, "--cache-dir", str(tmp_path), *parts], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.returncode == 0, answer.stdout
