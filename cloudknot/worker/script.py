"""A command-line script as the program: an element is its arguments, its standard output is the result."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def run_script(path: Path) -> Callable[..., str]:
    """A function that runs a script.

    Called with a list or tuple, each item is an argument on the command line; called with anything else, or with
    several arguments (starmap), each of them is. Numbers and the like stand there as ``str`` writes them. What the
    script prints on standard output is the result, and is also in the job's log; standard error is in the log only.

    Raises ``subprocess.CalledProcessError``, whose ``output`` is what it printed, when the script's exit code is
    not 0.
    """
    command = [*_interpreter(path), str(path)]

    def script(*elements: object) -> str:
        only = elements[0] if len(elements) == 1 else elements
        arguments = [os.fsdecode(item) if isinstance(item, bytes) else str(item) for item in _items(only)]
        done = subprocess.run(
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        sys.stdout.write(done.stdout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, [path.name, *arguments], done.stdout)
        return done.stdout

    return script


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _interpreter(path: Path) -> list[str]:
    """What runs a script; the file need not be executable."""
    if path.suffix == ".py":
        return [sys.executable]
    first = path.read_bytes().partition(b"\n")[0]
    return shlex.split(first.removeprefix(b"#!").decode())
