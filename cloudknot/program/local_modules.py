"""Find the user's own modules, and collect the source files that travel with a function.

A module is local if its file is neither in the standard library nor in ``site-packages``. Editable installations are
local too. Modules are located but never imported, because an import would run the user's code.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program import imports

_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class LocalModules:
    """The local modules that travel with a function, and the names that they import.

    Attributes
    ----------
    files : dict of str to bytes
        Source files by path, such as ``"pkg/util.py"``.
    needed : dict of str to bytes
        Those of the files that the job imports. The others travel only for people to read.
    external : set of str
        Imported names that are not local.
    optional : set of str
        Imported names that the code can do without.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    needed: dict[str, bytes] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)


def find(name: str) -> ModuleSpec | None:
    """Return the spec of a module, or None if it does not exist. Imports neither the module nor its parents."""
    # importlib.util.find_spec would import the parents, and so run the user's code.
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec) and loaded.name == name:
        return loaded
    path: list[str] | None = None
    parent = name.rpartition(".")[0]
    if parent:
        parent_spec = find(parent)
        if parent_spec is None or parent_spec.submodule_search_locations is None:
            return None
        path = list(parent_spec.submodule_search_locations)
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    try:
        return next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)
    except KeyError:
        # Python cannot make the spec of a namespace package if its parent is not imported.
        return _namespace(name, path or [])


def _namespace(name: str, path: list[str]) -> ModuleSpec | None:
    candidates = (Path(entry, name.rpartition(".")[2]) for entry in path)
    folders = [str(folder) for folder in candidates if folder.is_dir()]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec if folders else None


def file_of(spec: ModuleSpec | None) -> Path | None:
    """Return the file of a module, or None for a built-in module or a namespace package."""
    return Path(spec.origin).absolute() if spec and spec.has_location and spec.origin else None


def is_local(name: str) -> bool:
    """Return whether a module is the user's own, and not installed."""
    file = file_of(find(name))
    return file is not None and not _INSTALLED & set(file.parts) and not _in_standard_library(file)


@functools.lru_cache(maxsize=4096)
def is_local_cached(name: str) -> bool:
    """Return `is_local`, looked up once for each module in a session."""
    # The pickler asks for every function and class that it meets, and each lookup searches the disk.
    return is_local(name)


def _in_standard_library(file: Path) -> bool:
    roots = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}
    return any(file.resolve().is_relative_to(root) for root in roots)


def collect(names: Iterable[str], own: Iterable[str] = ()) -> LocalModules:
    """Follow imports from a function through its local modules.

    Parameters
    ----------
    names : iterable of str
        Modules that the function refers to by name. The job imports them, so it needs all that they import.
    own : iterable of str
        Modules with functions that travel by value. Their files travel too, with the local modules that they import
        from the same directory. The job does not import them, so they add no requirements.

    Raises
    ------
    CloudknotInputError
        A local module is compiled, or cannot be read.
    """
    # Modules travel as files. By value, they would take their state along, and lack modules imported inside functions.
    modules = LocalModules()
    waiting, seen = list(names), set()
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting += _follow(name, modules)
    for name in own:
        _add_beside(name, modules)
    return modules


def _with_parents(name: str) -> Iterator[str]:
    # Python imports the parents of a module before the module itself, so the job needs them too.
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _follow(name: str, modules: LocalModules) -> set[str]:
    if not is_local(name):
        modules.external.add(name)
        return set()
    path, source = _read(name)
    modules.files[path] = modules.needed[path] = source
    imported, optional = imports.names_in_tree(imports.parse(source), _package(name))
    modules.optional.update(optional)
    return imported


def _add_beside(own: str, modules: LocalModules) -> None:
    root, waiting, seen = _root(own), [own], set()
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name in seen or not _is_beside(name, root):
                continue
            seen.add(name)
            path, source = _read(name)
            modules.files[path] = source
            waiting += imports.names_in_tree(imports.parse(source), _package(name))[0]


def _package(name: str) -> str:
    spec = find(name)
    return (spec.parent or "") if spec else ""


def _root(name: str) -> Path | None:
    """Return the directory that contains a local module's top-level name."""
    file = file_of(find(name))
    if file is None:
        return None
    return file.parents[name.count(".") + (file.name == "__init__.py")]


def _is_beside(name: str, root: Path | None) -> bool:
    """Return whether a module is local Python source below ``root``, and not part of cloudknot itself."""
    file = file_of(find(name))
    # A compiled module is skipped here and not refused, because the job does not import modules of this kind.
    if file is None or file.suffix != ".py" or name.partition(".")[0] == __name__.partition(".")[0]:
        return False
    return is_local(name) and _root(name) == root


def _read(name: str) -> tuple[str, bytes]:
    """Return the path that a local module has in the job, and its source."""
    file = file_of(find(name))
    assert file is not None
    if file.suffix != ".py":
        refuse(
            problem=f"The function uses the module {name!r}, of which only the compiled file {file} exists.",
            cause="cloudknot can send only source files to a job.",
            fix="Install the module as a package, and name that package in requirements=[...].",
        )
    base = name.replace(".", "/")
    try:
        return (f"{base}/__init__.py" if file.name == "__init__.py" else f"{base}.py"), file.read_bytes()
    except OSError as error:
        raise CloudknotInputError(
            f"The function uses the module {name!r}, but its file cannot be read: {error}. Check its permissions."
        ) from error
