"""Fixtures that run the examples as a user does: in a copy of their folder, with an interpreter of their own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.paths import EXAMPLES, ROOT

UNUSED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
LONG = 240


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, its output, and the directory where it ran."""

    code: int
    stdout: str
    stderr: str
    directory: Path

    @property
    def pictures(self) -> list[str]:
        """The names of the pictures in the directory."""
        return sorted(path.name for path in self.directory.iterdir() if path.suffix in (".png", ".svg"))


@pytest.fixture
def programs(tmp_path):
    """Return a directory with the commands ``cloudknot`` and ``python`` of this interpreter."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, arguments in {"python": "", "cloudknot": '-c "from cloudknot.cli.main import main; main()" '}.items():
        command = directory / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        command.chmod(0o755)
    return directory


@pytest.fixture
def environment(cloud, programs):
    """Return the variables of a shell on the embedded cloud, with ``cloudknot`` and ``python`` on its path."""
    return {
        **os.environ,
        "CLOUDKNOT_LOCAL_DIR": str(cloud.directory),
        "CLOUDKNOT_CLOUD": "local",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def shell(environment, tmp_path):
    """Return a function that runs a command in a directory, and returns its exit code and output."""

    def run(*command, directory=tmp_path, timeout=LONG, **variables):
        done = subprocess.run(
            command,
            cwd=directory,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Ended(done.returncode, done.stdout, done.stderr, directory)

    return run


@pytest.fixture
def folder(tmp_path):
    """Return a function that copies an example's folder once, without its pictures. It returns the copy."""

    def copy(name):
        target = tmp_path / "examples" / name
        if not target.exists():
            shutil.copytree(EXAMPLES / name, target, ignore=UNUSED)
            for picture in [*target.glob("*.png"), *target.glob("*.svg")]:
                picture.unlink()
        return target

    return copy


@pytest.fixture
def example(shell, folder):
    """Return a function that runs a command in a copy of an example's folder, and asserts that it succeeds.

    For example ``example("monte_carlo_pi", "python", "monte_carlo_pi.py").stdout``. All calls of a test for one
    example share one copy, so a later command finds the files of an earlier one.
    """

    def run(name, *command, timeout=LONG, **variables):
        ended = shell(*command, directory=folder(name), timeout=timeout, **variables)
        assert ended.code == 0, ended.stderr
        return ended

    return run


@pytest.fixture
def docker_example(example, docker_place):
    """Return `example` on the docker runner. ``BASE_IMAGE`` names a base image that the engine has."""

    def run(name, *command, **options):
        place = {
            "CLOUDKNOT_LOCAL_DIR": str(docker_place.cloud.directory),
            "BASE_IMAGE": docker_place.choices["base_image"],
        }
        return example(name, *command, **place, **options)

    return run
