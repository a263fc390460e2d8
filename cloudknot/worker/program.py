"""The user's program, as the image holds it: load the function, and show its source in tracebacks."""

from __future__ import annotations

import json
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from .script import run_script

Function = Callable[..., object]
"""The user's function, or one that stands for a script."""


class _About(TypedDict):
    """The content of ``program.json``, and of the line before a function that travels with its run."""

    python: str
    cloudpickle: str
    script: NotRequired[str]
    filename: NotRequired[str]
    firstlineno: NotRequired[int]
    source: NotRequired[str]


PROGRAM = Path(__file__).resolve().parent.parent / "program"


def load_function(folder: Path = PROGRAM) -> Function:
    """The user's function, or what stands for a script. Raises whatever the function's imports raise."""
    about = json.loads((folder / "program.json").read_text())
    _check_python(about["python"])
    import cloudpickle

    _check_cloudpickle(about["cloudpickle"], cloudpickle.__version__)
    if about.get("script"):
        return run_script(folder / "modules" / about["script"])
    sys.path.insert(0, str(folder / "modules"))
    with open(folder / "function.pkl", "rb") as file:
        function: Function = cloudpickle.load(file)
    return function


def load_travelled(data: bytes, folder: Path = PROGRAM) -> Function:
    """A function that a run brings: a line of JSON as ``program.json`` has it, with the source, and the pickle."""
    line, _, pickled = data.partition(b"\n")
    about = json.loads(line)
    _check_python(about["python"])
    import cloudpickle

    _check_cloudpickle(about["cloudpickle"], cloudpickle.__version__)
    sys.path.insert(0, str(folder / "modules"))
    _remember(about, about["source"])
    function: Function = cloudpickle.loads(pickled)
    return function


def _check_python(wanted: str) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted != here:
        raise RuntimeError(
            f"the function was pickled by Python {wanted}, but this image has Python {here}: "
            f"use a base image with Python {wanted}"
        )


def _check_cloudpickle(wanted: str, here: str) -> None:
    if wanted.split(".")[0] != here.split(".")[0]:
        raise RuntimeError(
            f"the function was pickled by cloudpickle {wanted}, but this image has cloudpickle {here}: "
            f"ask for cloudpickle=={wanted}, or leave it out of the requirements"
        )


def show_source(folder: Path = PROGRAM) -> None:
    """Give tracebacks the lines of the user's file, which is not in the container."""
    try:
        about = json.loads((folder / "program.json").read_text())
        source = (folder / "function.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    _remember(about, source)


def _remember(about: _About, source: str) -> None:
    """Have tracebacks find the lines of a function whose file is not here."""
    filename = about.get("filename")
    if filename and not Path(filename).exists():
        lines = ["\n"] * (about["firstlineno"] - 1) + source.splitlines(keepends=True)
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
