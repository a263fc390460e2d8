"""The user's program, as the image holds it: load the function, and show its source in tracebacks."""

from __future__ import annotations

import json
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .script import run_script

PROGRAM = Path(__file__).resolve().parent.parent / "program"


def load_function(folder: Path = PROGRAM) -> Callable[..., Any]:
    """The user's function, or what stands for a script. Raises whatever the function's imports raise."""
    import cloudpickle

    about = json.loads((folder / "program.json").read_text())
    _check_versions(about, cloudpickle.__version__)
    if about.get("script"):
        return run_script(folder / "modules" / about["script"])
    sys.path.insert(0, str(folder / "modules"))
    with open(folder / "function.pkl", "rb") as file:
        function: Callable[..., Any] = cloudpickle.load(file)
    return function


def _check_versions(about: dict[str, Any], cloudpickle_version: str) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if about["python"] != here:
        raise RuntimeError(
            f"the function was pickled by Python {about['python']}, but this image has Python {here}: "
            f"use a base image with Python {about['python']}"
        )
    if about["cloudpickle"].split(".")[0] != cloudpickle_version.split(".")[0]:
        raise RuntimeError(
            f"the function was pickled by cloudpickle {about['cloudpickle']}, but this image has "
            f"{cloudpickle_version}: ask for cloudpickle=={about['cloudpickle']}"
        )


def show_source(folder: Path = PROGRAM) -> None:
    """Give tracebacks the lines of the user's file, which is not in the container."""
    try:
        about = json.loads((folder / "program.json").read_text())
        source = (folder / "function.py").read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        return
    filename = about.get("filename")
    if filename and not Path(filename).exists():
        lines = ["\n"] * (about["firstlineno"] - 1) + source
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
