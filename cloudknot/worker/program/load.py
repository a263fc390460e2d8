"""Load the user's program from the image, and show its source code in tracebacks."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from ..wire.failure import add_note
from .ahead import is_harmless
from .script import run_script

if TYPE_CHECKING:
    from .own_modules import Names

Function = Callable[..., object]
"""The user's function, or a function that runs the user's script."""


class _Description(TypedDict):
    """The content of ``program.json``, and of the first line of a run's own function."""

    python: str
    cloudpickle: str
    script: NotRequired[str]
    filename: NotRequired[str]
    firstlineno: NotRequired[int]
    source: NotRequired[str]
    paths: NotRequired[list[str]]
    names: NotRequired[Names]


_homes: set[str] = set()
"""The directories of the function's source code on the user's machine."""
_ahead: dict[Path, Function] = {}
"""The function that `load_ahead` has loaded, by its folder."""
PROGRAM = Path(__file__).resolve().parents[2] / "program"


@functools.lru_cache(maxsize=1)
def _description(folder: Path) -> _Description:
    """Return the content of ``program.json``."""
    description: _Description = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    return description


def warm() -> None:
    """Read the description of the image's program."""
    # Without one, `load_function` raises the error.
    with contextlib.suppress(OSError, ValueError):
        _description(PROGRAM)


def load_ahead(folder: Path = PROGRAM) -> None:
    """Load the function in the image before this process forks, if no job can notice that."""
    # Links to files are made in the working directory of each job.
    with contextlib.suppress(Exception):
        if not _description(folder).get("paths") and is_harmless(folder / "function.pkl"):
            _ahead[folder] = load_function(folder)


def load_function(folder: Path = PROGRAM) -> Function:
    """Return the function in the image, or one that runs the script there.

    Raises any exception that the function's imports raise.
    """
    if folder in _ahead:
        from .own_modules import own_modules

        own_modules.show_files(folder / "modules")
        return _ahead[folder]
    description = _description(folder)
    # The versions are checked first, because unpickling with a wrong one fails with a less helpful error. Python's is
    # checked before the import of cloudpickle, because that may fail too.
    _check_python(description["python"])
    import cloudpickle

    _check_cloudpickle(description["cloudpickle"], cloudpickle.__version__)
    # cloudpickle's version is checked before this import, because the module uses its internals.
    from .own_modules import own_modules

    own_modules.find_files(folder / "modules", description.get("paths", ()))
    if description.get("script"):
        return run_script(folder / "modules" / description["script"])
    with open(folder / "function.pkl", "rb") as file:
        function: Function = own_modules.load(file, description.get("names", {}), folder / "modules", lambda: find_own)
    return function


def find_own(module: str, name: str) -> object:
    """Return a function or class of the program in the image, by its module and name."""
    return _find(module, name, load_function)


def find_travelled(path: str, module: str, name: str) -> object:
    """Return a function or class of a program that a run has brought along, and that is in a file."""
    return _find(module, name, lambda: load_travelled(Path(path).read_bytes()))


def _find(module: str, name: str, load: Callable[[], Function]) -> object:
    from .own_modules import own_modules

    # A new interpreter of multiprocessing has no program yet.
    if not own_modules.has(module):
        own_modules.enable()
        load()
    return own_modules.named(module, name)


@functools.lru_cache(maxsize=1)
def _stored(data: bytes) -> Callable[[str, str], object]:
    """Return `find_travelled` for a program that is stored in a file until this process ends."""
    import atexit
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="cloudknot-", suffix=".pkl", delete=False) as file:
        file.write(data)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return functools.partial(find_travelled, file.name)


def load_travelled(data: bytes, folder: Path = PROGRAM) -> Function:
    """Return the function that a run brings along.

    Parameters
    ----------
    data : bytes
        A line of JSON, as in ``program.json`` with the source code added, followed by the pickle.
    folder : Path
        The program in the image. Its local modules can be imported.
    """
    line, _, pickled = data.partition(b"\n")
    description = json.loads(line)
    _check_python(description["python"])
    import cloudpickle

    _check_cloudpickle(description["cloudpickle"], cloudpickle.__version__)
    from .own_modules import own_modules

    # The image's function is another program. Its modules are not those of this one.
    own_modules.forget()
    own_modules.find_files(folder / "modules", description.get("paths", ()))
    _remember(description, description["source"])
    function: Function = own_modules.load(
        io.BytesIO(pickled), description.get("names", {}), folder / "modules", lambda: _stored(data)
    )
    return function


def _check_python(required: str) -> None:
    installed = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Pickled functions contain bytecode, and that differs between minor versions of Python.
    if required != installed:
        raise RuntimeError(
            f"The function was pickled by Python {required}, but this image has Python {installed}. "
            f"Use a base image with Python {required}, such as base_image='python:{required}-slim'"
        )


def _check_cloudpickle(required: str, installed: str) -> None:
    if required.split(".")[0] != installed.split(".")[0]:
        raise RuntimeError(
            f"The function was pickled by cloudpickle {required}, but this image has cloudpickle {installed}. "
            f"Write cloudpickle=={required} in requirements=, or remove cloudpickle from the requirements"
        )


def show_source(folder: Path = PROGRAM) -> None:
    """Let tracebacks show the lines of the user's file, although the container does not have it."""
    try:
        description = _description(folder)
        source = (folder / "function.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    _remember(description, source)


def explain_missing_file(error: BaseException, folder: Path = PROGRAM) -> None:
    """Add a note to the error of a file that was beside the user's module, and did not travel with it."""
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str | os.PathLike):
        return
    path = os.path.abspath(error.filename)
    homes = {str(folder / "modules"), *filter(None, _homes)}
    if any(path.startswith(home + os.sep) for home in homes):
        add_note(
            error,
            "cloudknot: data files do not travel with the function and its local modules. Pass the content as an "
            "argument, read it from S3, or make the folder a package and install it (`pip install -e .`): packages "
            "travel with their data files.",
        )


def _remember(description: _Description, source: str) -> None:
    """Register the source code of a function under its original file name."""
    filename = description.get("filename")
    if filename:
        _homes.add(os.path.dirname(filename))
    if filename and not Path(filename).exists():
        # Empty lines before the source code give its lines their original numbers.
        lines = ["\n"] * (description["firstlineno"] - 1) + source.splitlines(keepends=True)
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
