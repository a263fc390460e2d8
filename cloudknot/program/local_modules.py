"""Find the user's own modules, and collect the source files that travel with a function.

A module is local if its file is neither in the standard library nor in ``site-packages``, and belongs to no editable
package. Modules are located but never imported, because an import would run the user's code.
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
from cloudknot.program import imports, named_modules
from cloudknot.program.files.names import has
from cloudknot.program.files.text import portable
from cloudknot.program.packages.distributions import EDITABLE, INSTALLED, LocalDistribution
from cloudknot.program.packages.wheels.local_wheels import owner_of


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
    paths : set of str
        Those of the files that the code names by path, such as ``"tool.py"``.
    own : frozenset of str
        Modules with functions that travel by value.
    packages : set of str
        Canonical names of the local packages that the function uses. They travel as wheels.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    needed: dict[str, bytes] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    own: frozenset[str] = frozenset()
    packages: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        """The names of the modules that travel as files, or have functions that travel by value."""
        bases = (path.removesuffix(".py").removesuffix("/__init__") for path in self.files)
        return {*self.own, *(base.replace("/", ".") for base in bases)}


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
    last = name.rpartition(".")[2]
    folders = [str(Path(entry, last)) for entry in path if Path(entry, last).is_dir() and has(Path(entry), last)]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec if folders else None


def file_of(spec: ModuleSpec | None) -> Path | None:
    """Return the file of a module, or None for a built-in module or a namespace package."""
    return Path(spec.origin).absolute() if spec and spec.has_location and spec.origin else None


def is_local(name: str) -> bool:
    """Return whether a module is the user's own, and not installed."""
    file = file_of(find(name))
    if file is None or INSTALLED & set(file.parts) or _is_standard(name, file):
        return False
    return owner_of(name, file) is None


@functools.lru_cache(maxsize=4096)
def is_local_cached(name: str) -> bool:
    """Return `is_local`, looked up once for each module in a session."""
    # The pickler asks for every function and class that it meets, and each lookup searches the disk.
    return is_local(name)


def package_of(name: str) -> LocalDistribution | None:
    """Return the local package that provides a module, or an object in a module; None for any other name."""
    while name:
        file = file_of(find(name))
        if file is not None:
            return None if _is_standard(name, file) else owner_of(name, file)
        name = name.rpartition(".")[0]
    return None


@functools.lru_cache(maxsize=4096)
def package_of_cached(name: str) -> LocalDistribution | None:
    """Return `package_of`, looked up once for each module in a session."""
    return package_of(name)


def is_editable(name: str) -> bool:
    """Return whether a module belongs to an editable package."""
    package = package_of_cached(name)
    return package is not None and package.origin == EDITABLE


def _is_standard(name: str, file: Path) -> bool:
    """Return whether a module is part of the standard library."""
    # Windows has compiled modules in its folder DLLs, and its embeddable Python has the others in a zip file. A source
    # file of such a name is the user's own, which hides the standard library's.
    is_named_so = name.partition(".")[0] in sys.stdlib_module_names
    return (is_named_so and file.suffix != ".py") or _in_standard_library(file)


def _in_standard_library(file: Path) -> bool:
    resolved = file.resolve()
    # A virtual environment has its own packages below the folder of its platform's library.
    if INSTALLED & set(resolved.parts):
        return False
    return any(resolved.is_relative_to(root) for root in _standard_library())


@functools.cache
def _standard_library() -> set[Path]:
    return {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}


def collect(names: Iterable[str], own: Iterable[str] = (), named: Iterable[str] = ()) -> LocalModules:
    """Follow imports from a function through its local modules.

    Parameters
    ----------
    names : iterable of str
        Modules that the function refers to by name. The job imports them, so it needs all that they import.
    own : iterable of str
        Modules with functions that travel by value. Their files travel too, with the local modules that they import
        from the same directory. The job does not import them, so they add no requirements.
    named : iterable of str
        Words in the functions that may be the names of modules, as `named_modules.in_function` returns them. Those of
        local modules count, and the job can do without their imports.

    Raises
    ------
    CloudknotInputError
        A local module is compiled, or cannot be read.
    """
    # Modules travel as files. By value, they would take their state along, and lack modules imported inside functions.
    modules = LocalModules(own=frozenset(own))
    seen: set[str] = set()
    _follow_all(names, modules, seen)
    # A module of its own has functions that travel by value, so its name here means those.
    _follow_words({*named, *_named_in(modules.needed)}, modules, seen | modules.own)
    for name in sorted(modules.own):
        if package := package_of(name):
            modules.packages.add(package.name)
        else:
            _add_beside(name, modules)
    return modules


def _follow_all(names: Iterable[str], modules: LocalModules, seen: set[str], runs_main: bool = False) -> None:
    """Add modules and everything local that they import, unless they are in ``seen``."""
    waiting = list(names)
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name not in seen:
                seen.add(name)
                waiting += _follow(name, modules, runs_main)


def _follow_words(words: set[str], modules: LocalModules, seen: set[str]) -> None:
    """Add the local modules among some words, and those that they name in turn."""
    while local := set(_modules_among(words)) - seen:
        before = set(modules.external)
        _follow_all(local, modules, seen, runs_main=True)
        # A word may be the name of a module by accident, so the job can do without what only such modules import.
        modules.optional.update(modules.external - before)
        words = words | set(_named_in(modules.needed))
    modules.paths.update(word for word in words if word in modules.files)


def _named_in(sources: dict[str, bytes]) -> Iterator[str]:
    """Yield the words in some sources that may be the names of modules."""
    for path, source in sources.items():
        parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
        yield from named_modules.in_tree(imports.parse(source), _package(".".join(parts)))


def _modules_among(words: Iterable[str]) -> Iterator[str]:
    """Yield the local modules among some words. A word with a dot at its end stands for a whole package."""
    for word in words:
        name = word.removesuffix(".py").replace("/", ".").rstrip(".")
        # `python -m pkg` runs pkg/__main__.py.
        candidates = (name, f"{name}.__main__")
        yield from (module for module in candidates if _is_source(module) or package_of_cached(module))
        if word.endswith("."):
            yield from _inside(name)


def _is_source(name: str) -> bool:
    """Return whether a module is local and has its source: a compiled one cannot travel, and may not be meant."""
    file = file_of(find(name)) if is_local_cached(name) else None
    return file is not None and file.suffix == ".py"


def _inside(package: str) -> Iterator[str]:
    """Yield the local modules inside a package."""
    spec = find(package)
    for place in (spec.submodule_search_locations if spec else None) or ():
        for file in sorted(Path(place).rglob("*.py")):
            name = ".".join([package, *file.relative_to(place).with_suffix("").parts]).removesuffix(".__init__")
            if is_local(name):
                yield name


def _with_parents(name: str) -> Iterator[str]:
    # Python imports the parents of a module before the module itself, so the job needs them too.
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _follow(name: str, modules: LocalModules, runs_main: bool) -> set[str]:
    # A job has a stand-in in the place of cloudknot, also where this cloudknot is a local package.
    if name.partition(".")[0] == __name__.partition(".")[0]:
        return set()
    if package := package_of(name):
        modules.packages.add(package.name)
        return _imports_of_package(name, modules)
    if not is_local(name):
        modules.external.add(name)
        return set()
    path, source = _read(name)
    modules.files[path] = source
    imported, optional = imports.names_in_tree(imports.parse(source, runs_main), _package(name))
    modules.optional.update(optional)
    if name in modules.own:
        # The job runs such a module only where it needs more of it than the function's names, and then a stand-in is
        # in the place of cloudknot: the module may create Knots.
        return {name for name in imported if name.partition(".")[0] != __name__.partition(".")[0]}
    modules.needed[path] = source
    return imported


def _imports_of_package(name: str, modules: LocalModules) -> set[str]:
    """Return the imports of a module that is part of a local package."""
    file = file_of(find(name))
    if file is None or file.suffix != ".py":
        return set()
    try:
        imported, _ = imports.names_in_tree(imports.parse(file.read_bytes()), _package(name))
    except OSError:
        return set()
    # A package may forget to declare what it imports. What is not installed here is not needed here.
    modules.optional.update(imported)
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


def _content(file: Path, name: str) -> bytes:
    """Return the content of a module's file, which may be inside an archive, such as a zipapp."""
    get_data = getattr(getattr(find(name), "loader", None), "get_data", None)
    if get_data is None or file.parent.is_dir():
        return file.read_bytes()
    content: bytes = get_data(str(file))
    return content


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
        source = portable(file.name, _content(file, name))
    except OSError as error:
        raise CloudknotInputError(
            f"The function uses the module {name!r}, but its file cannot be read: {error}. Check its permissions."
        ) from error
    return (f"{base}/__init__.py" if file.name == "__init__.py" else f"{base}.py"), source
