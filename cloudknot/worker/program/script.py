"""Run a command-line script as the program: an element is its arguments, its standard output is the result."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def run_script(path: Path) -> Callable[..., str]:
    """Return a function that runs a script and returns its standard output.

    A list or tuple gives one command-line argument for each item. Any other element is one argument, and so is each
    argument of a starmap. Values are written as ``str`` writes them.

    Raises
    ------
    subprocess.CalledProcessError
        The script's exit code is not 0. ``output`` is its standard output.
    """
    command = [*_interpreter(path), str(path)]

    def script(*elements: object) -> str:
        argument = elements[0] if len(elements) == 1 else elements
        arguments = [os.fsdecode(item) if isinstance(item, bytes) else str(item) for item in _items(argument)]
        # Standard error goes to the job's log directly. Standard output is the result, and is copied to the log below.
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            encoding="utf-8",
        )
        sys.stdout.write(done.stdout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, [path.name, *arguments], done.stdout)
        return done.stdout

    return script


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _interpreter(path: Path) -> list[str]:
    """Return the command of a script's interpreter."""
    # The interpreter is started explicitly, because the script need not be executable.
    if path.suffix == ".py":
        return [sys.executable]
    first = path.read_bytes().partition(b"\n")[0]
    return shlex.split(first.removeprefix(b"#!").decode())
