"""Which modules are the user's own, and which of their source files travel with a function.

A module is local when its file is neither in the standard library nor in a ``site-packages`` directory; an editable
installation is local too. Modules are looked up, never imported: finding out must not run the user's code.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path

from cloudknot.errors import CloudknotInputError
from cloudknot.program import imports

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Travel:
    """The local modules that a function needs, and what they need in turn.

    ``files`` maps paths such as ``"pkg/util.py"`` to source bytes; ``needed`` are the sources that the function runs,
    and not only travel for a reader; ``outside`` are the names imported that are not local, ``optional`` those of them
    whose absence the code caters for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    needed: dict[str, bytes] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)


def find(name: str) -> ModuleSpec | None:
    """The spec of a module, without importing it or its parents; None when there is no such module."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec) and loaded.name == name:
        return loaded
    path: list[str] | None = None
    parent = name.rpartition(".")[0]
    if parent:
        above = find(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    try:
        return next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)
    except KeyError:
        # Python cannot make the spec of a namespace package whose parent is not imported.
        return _namespace(name, path or [])


def _namespace(name: str, path: list[str]) -> ModuleSpec | None:
    folders = [str(folder) for folder in (Path(each, name.rpartition(".")[2]) for each in path) if folder.is_dir()]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec if folders else None


def file_of(spec: ModuleSpec | None) -> Path | None:
    """The file that a module is loaded from; None for built-in modules and namespace packages."""
    return Path(spec.origin).absolute() if spec and spec.has_location and spec.origin else None


def is_local(name: str) -> bool:
    """Whether a module is the user's own, and not installed."""
    file = file_of(find(name))
    return file is not None and not _INSTALLED & set(file.parts) and not _in_standard_library(file)


@functools.lru_cache(maxsize=4096)
def is_local_cached(name: str) -> bool:
    """`is_local`, looked up once in a session: pickling asks for each function and class that it meets."""
    return is_local(name)


def _in_standard_library(file: Path) -> bool:
    roots = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}
    return any(file.resolve().is_relative_to(root) for root in roots)


def collect(names: Iterable[str], own: Iterable[str] = ()) -> Travel:
    """Follow imports from a function through its local modules.

    Parameters
    ----------
    names : iterable of str
        Modules that the function refers to by name. All that they import is needed.
    own : iterable of str
        Modules whose functions travel by value. Their files, and those of local modules they import beside them,
        travel, but need nothing installed.

    Raises
    ------
    CloudknotInputError
        A local module is compiled, or cannot be read.
    """
    travel = Travel()
    waiting, seen = list(names), set()
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting += _follow(name, travel)
    for name in own:
        _add_beside(name, travel)
    return travel


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _follow(name: str, travel: Travel) -> set[str]:
    if not is_local(name):
        travel.outside.add(name)
        return set()
    path, source = _read(name)
    travel.files[path] = travel.needed[path] = source
    found, optional = imports.names_in_tree(imports.parse(source), _package(name))
    travel.optional.update(optional)
    return found


def _add_beside(own: str, travel: Travel) -> None:
    root, waiting, seen = _root(own), [own], set()
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name in seen or not _is_beside(name, root):
                continue
            seen.add(name)
            path, source = _read(name)
            travel.files[path] = source
            waiting += imports.names_in_tree(imports.parse(source), _package(name))[0]


def _package(name: str) -> str:
    spec = find(name)
    return (spec.parent or "") if spec else ""


def _root(name: str) -> Path | None:
    """The directory that a local module's top-level name is in."""
    file = file_of(find(name))
    if file is None:
        return None
    return file.parents[name.count(".") + (file.name == "__init__.py")]


def _is_beside(name: str, root: Path | None) -> bool:
    """Whether a module may travel for the reader: readable, local, in the same directory, and not cloudknot itself."""
    file = file_of(find(name))
    if file is None or file.suffix != ".py" or name.partition(".")[0] == __name__.partition(".")[0]:
        return False
    return is_local(name) and _root(name) == root


def _read(name: str) -> tuple[str, bytes]:
    file = file_of(find(name))
    assert file is not None
    if file.suffix != ".py":
        raise CloudknotInputError(
            f"The function uses the module {name!r}, which is compiled ({file}) and cannot travel as source. "
            "Install it as a package and name that package in requirements=."
        )
    base = name.replace(".", "/")
    try:
        return (f"{base}/__init__.py" if file.name == "__init__.py" else f"{base}.py"), file.read_bytes()
    except OSError as error:
        raise CloudknotInputError(
            f"The function uses the module {name!r}, whose file cannot be read: {error}"
        ) from error
