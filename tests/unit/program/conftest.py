"""A client and a job in interpreters of their own, without a cloud between them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

CLIENT = """
if __name__ == "__main__":
    import json, pathlib, pickle, sys
    from tests.helpers.images import render_image
    from cloudknot.program.program import make_program
    from cloudknot.program.inputs.input_pickling import pickle_value
    program = make_program(func)
    context = pathlib.Path(sys.argv[1])
    for path, data in render_image(program).files.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_bytes(data)
    (context / "input").write_bytes(pickle_value(args, program))
    print(program.digest, *program.modules)
"""
JOB = """
import pickle, sys
from cloudknot_worker.program.load import load_function
from cloudknot_worker.program.own_modules import own_modules
def main():
    context = sys.argv[1]
    own_modules.enable()
    func = load_function()
    print(repr(func(*pickle.load(open(context + "/input", "rb")))))
main()
"""


class Run:
    """A function that runs a client's ``script.py`` and then its program, and returns the result's ``repr``.

    The script defines ``func`` and ``args``. The job has an interpreter without cloudknot.

    Attributes
    ----------
    digest : str
        The digest of the last program.
    warnings : str
        The standard error of the last client.
    """

    def __init__(self, folder: Path, program: str = JOB) -> None:
        self._folder, self._program = folder, program
        self._number = 0
        self.digest = self.warnings = ""

    def __call__(self, script: str, files: dict[str, str] | None = None, options: tuple[str, ...] = ()) -> str:
        self._number += 1
        folder = self._folder / str(self._number)
        client, context = folder / "client", folder / "opt"
        for path, source in {**(files or {}), "script.py": textwrap.dedent(script) + CLIENT}.items():
            (client / path).parent.mkdir(parents=True, exist_ok=True)
            (client / path).write_text(textwrap.dedent(source))
        sent = python(*options, "script.py", str(context), cwd=client, path=str(ROOT))
        self.digest, self.warnings = last_line(sent).split()[0], sent.stderr
        return job(context, self._program)


def job(context: Path, program: str = JOB) -> str:
    """Run the program of a build context, and return the ``repr`` of its result."""
    place = context.parent / "work"
    place.mkdir()
    (context / "job.py").write_text(program)
    return last_line(python(str(context / "job.py"), str(context), cwd=place, path=str(context)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a script in a client and its program in a job."""
    return Run(tmp_path)


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of the output of a process."""
    return process.stdout.splitlines()[-1]


def python(*arguments: str, cwd: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a clean environment. Its last line of output is the answer."""
    folders = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": folders, "PYTHONPATH": path, "HOME": str(cwd)}
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process
