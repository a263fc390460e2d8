"""Find the names of the user's modules that have other values than their files give: ``settings.N = 5``.

A job imports these modules from their files. So such values travel with the function, and those that cannot travel
are named in a warning. The files are read, and never run.
"""

from __future__ import annotations

import functools
import itertools
import operator
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from cloudknot.options import streams
from cloudknot.program import imports, pickling
from cloudknot.program.checks.log_settings import LogSetting
from cloudknot.program.checks.outside_stores import stores
from cloudknot.program.checks.static_values import StaticScope, scope_of
from cloudknot.program.fingerprint import Fingerprint
from cloudknot.program.local_modules import file_of, find, package_of_cached

LARGEST = 1 << 20
"""Bytes of the largest pickle of a changed value that travels."""
_PLAIN = (int, float, complex, bool, str, bytes, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)


@dataclass(frozen=True, eq=False)
class Change:
    """A name of a module, or of a class in it, whose value differs from the one in the file."""

    owner: Any
    name: str
    value: Any
    module: str

    @property
    def shown(self) -> str:
        """The name with its owner, for people."""
        inside = f"{self.owner.__qualname__}." if isinstance(self.owner, type) else ""
        return f"{self.module}.{inside}{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The worker needs no code of its own: unpickling sets the value.
        return setattr, (self.owner, self.name, self.value)


class WithChanges:
    """A function whose pickle makes some settings and changes first, and then gives the function itself."""

    def __init__(self, func: object, settings: tuple[LogSetting, ...], changes: Changes) -> None:
        self._func, self._settings, self._changes = func, settings, changes

    def __reduce__(self) -> tuple[Any, ...]:
        # First all imports: a module may have copied a value before it changed, by `from settings import N`.
        return operator.getitem, ((self._settings, self._changes.modules, self._changes.travelling, self._func), 3)


@dataclass(frozen=True)
class _Module:
    """A module of the user's that is imported here, with the names that its file binds."""

    name: str
    live: ModuleType
    source: bytes
    scope: StaticScope


@dataclass(frozen=True)
class Changes:
    """The changes of some modules.

    Attributes
    ----------
    modules : tuple of module
        The modules with changes that travel, and those that import names from them.
    travelling : tuple of Change
    lost : tuple of str
        Names with a value that cannot travel.
    stale : tuple of str
        Modules whose file has changed since they were imported.
    """

    modules: tuple[ModuleType, ...] = ()
    travelling: tuple[Change, ...] = ()
    lost: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def changes_in(files: Mapping[str, bytes], packages: Iterable[str], own: tuple[str, ...]) -> Changes:
    """Return the changes of the imported modules among those that a job imports.

    Parameters
    ----------
    files : mapping of str to bytes
        The source files that a job imports, by path.
    packages : iterable of str
        Canonical names of the local packages of the function.
    own : tuple of str
        Modules with functions that travel by value, together with the state of their module.
    """
    sources = {_name(path): source for path, source in files.items()} | dict(_of_packages(set(packages)))
    modules = {name: module for name, source in sources.items() if (module := _loaded(name, source))}
    changes = [change for module in modules.values() for change in _changes(module, modules, own)]
    can_travel = [_can_travel(change, own) for change in changes]
    lost = [change for change, can in zip(changes, can_travel, strict=True) if not can]
    travelling = tuple(itertools.compress(changes, can_travel))
    return Changes(
        tuple(_involved(modules, {change.module for change in travelling})),
        travelling,
        tuple(sorted(change.shown for change in lost if not _is_made_here(change, modules))),
        tuple(sorted(filter(None, map(_stale, modules.values())))),
    )


def warn_of_lost(changes: Changes) -> None:
    """Warn about changes that jobs do not see."""
    if changes.lost:
        streams.warn(
            f"{', '.join(changes.lost)} changed after the import of the module, and cannot travel: the value cannot "
            f"be pickled, or is larger than {LARGEST >> 20} MiB. Jobs get the value in the file. Set it inside the "
            "function, or pass it as an argument."
        )
    if changes.stale:
        reload = "; ".join(f"importlib.reload(sys.modules[{name!r}])" for name in changes.stale)
        streams.warn(
            f"The file of {', '.join(changes.stale)} changed after its import. Jobs run the file as it is now, and "
            f"this session does not. Restart the session, or run {reload}."
        )


@dataclass(frozen=True)
class ModuleState:
    """The changes of a program's modules when it was made, to compare with later ones.

    Attributes
    ----------
    files, packages, own
        The arguments of `changes_in`.
    digests : mapping of str to str
        The digest of each changed value, by its name for people.
    """

    files: Mapping[str, bytes]
    packages: frozenset[str]
    own: tuple[str, ...]
    digests: Mapping[str, str]

    @classmethod
    def of(
        cls, files: Mapping[str, bytes], packages: Iterable[str], own: tuple[str, ...], changes: Changes
    ) -> ModuleState:
        """Return the state with the present changes."""
        return cls(files, frozenset(packages), own, _digests(changes, own))


def warn_of_later_changes(state: ModuleState, knot: str) -> None:
    """Warn about names that have changed since a program was made: jobs use the earlier values."""
    try:
        now = _digests(changes_in(state.files, state.packages, state.own), state.own)
    except OSError:
        # A file of a package is gone by now. The map needs it no more.
        return
    later = sorted(name for name in now.keys() | state.digests.keys() if now.get(name) != state.digests.get(name))
    if later:
        streams.warn(
            f"{', '.join(later)} changed after the knot {knot!r} was made. Jobs use the values of that time. Create "
            f"the knot again before you map: Knot(name={knot!r}, func=...)."
        )


def _digests(changes: Changes, own: tuple[str, ...]) -> dict[str, str]:
    with pickling.by_value(own):
        # Modules keep caches and counters in private names, and each call changes them.
        public = (change for change in changes.travelling if not change.name.startswith("_"))
        return {change.shown: Fingerprint(change.value).digest for change in public}


def _involved(modules: Mapping[str, _Module], changed: set[str]) -> Iterator[ModuleType]:
    """Yield the modules that changed, and those that import names from them."""
    for name, module in modules.items():
        sources = (_absolute(module, source) for source, _ in module.scope.imported.values())
        if name in changed or changed.intersection(sources):
            yield module.live


def _absolute(module: _Module, source: str) -> str:
    """Return the name of a module that another one imports from, without dots at its start."""
    package = module.live.__package__ or ""
    return resolve_name(source, package) if source.startswith(".") and package else source


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _of_packages(packages: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the imported modules of local packages, with their sources."""
    for name in list(sys.modules) if packages else ():
        package = package_of_cached(name.partition(".")[0])
        if package is not None and package.name in packages:
            file = file_of(find(name))
            if file is not None and file.suffix == ".py":
                yield name, file.read_bytes()


def _loaded(name: str, source: bytes) -> _Module | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    # Another module of that name, or one that replaces itself by an object, is not what the file describes.
    if type(module) is not ModuleType or not isinstance(file, str) or Path(file) != file_of(find(name)):
        return None
    scope = _scope(source)
    return _Module(name, module, source, scope)


@functools.lru_cache(maxsize=1024)
def _scope(source: bytes) -> StaticScope:
    try:
        return scope_of(imports.syntax_tree(source))
    except (SyntaxError, ValueError):
        # Nothing is known about a file that became invalid after its import.
        return StaticScope(is_open=True)


def _changes(module: _Module, modules: Mapping[str, _Module], own: tuple[str, ...]) -> Iterator[Change]:
    scope = module.scope
    touched: set[tuple[str, str]] | None = None
    for name, value in list(vars(module.live).items()):
        if name.startswith("__") or _is_submodule(value, f"{module.name}.{name}"):
            continue
        is_known, expected = _expected(module, name, modules)
        if is_known:
            changed = not _is_same(expected, value)
            changed = changed and (name not in scope.doubtful or _is_plain(value))
        elif name in scope.functions:
            changed = not (isinstance(value, FunctionType) and value.__globals__ is vars(module.live))
        elif name in scope.classes and isinstance(value, type) and value.__module__ == module.name:
            yield from _changes_of_class(value, scope.classes[name], module)
            continue
        elif name in scope.bound:
            # The value is computed when the module is imported, and a job computes it again.
            touched = _touched(modules, own) if touched is None else touched
            changed = (module.name, name) in touched
        else:
            changed = not scope.is_open
        if changed:
            yield Change(module.live, name, value, module.name)


def _is_submodule(value: object, name: str) -> bool:
    return isinstance(value, ModuleType) and value.__name__ == name


def _expected(module: _Module, name: str, modules: Mapping[str, _Module]) -> tuple[bool, Any]:
    """Return whether the value that a name has in its file is known, and the value."""
    seen: set[tuple[str, str]] = set()
    while name in module.scope.imported and (module.name, name) not in seen:
        seen.add((module.name, name))
        source, name = module.scope.imported[name]
        target = modules.get(_absolute(module, source))
        if target is None:
            return False, None
        module = target
    return name in module.scope.values, module.scope.values.get(name)


def _changes_of_class(cls: type, scope: StaticScope, module: _Module) -> Iterator[Change]:
    # A class of a library may replace the attributes of its subclasses: those of an enumeration are members.
    is_alone = cls.__bases__ == (object,)
    for name, value in list(vars(cls).items()):
        if name.startswith(("__", f"_{cls.__name__.lstrip('_')}__")):
            continue
        if name in scope.values:
            changed = (is_alone or _is_plain(value)) and not _is_same(scope.values[name], value)
        elif name in scope.functions:
            is_own = isinstance(value, FunctionType) and value.__globals__ is vars(module.live)
            changed = not is_own and (is_alone or not hasattr(value, "__wrapped__"))
        else:
            changed = is_alone and name not in scope.bound and _is_plain(value)
        if changed:
            yield Change(cls, name, value, module.name)


def _touched(modules: Mapping[str, _Module], own: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return the names that code outside their module changes."""
    objects = {
        id(value): (module.name, name)
        for module in modules.values()
        for name, value in vars(module.live).items()
        if not isinstance(value, (*_PLAIN, tuple, type, FunctionType, ModuleType))
    }
    return stores([*own, *modules], objects)


def _is_same(expected: Any, value: Any) -> bool:
    if type(expected) is not type(value):
        return False
    try:
        # Unlike ==, a fingerprint tells 1 from True, and finds NaN equal to itself.
        return Fingerprint(expected).digest == Fingerprint(value).digest
    except Exception:
        return False


def _is_plain(value: Any) -> bool:
    """Return whether a value consists of numbers, texts and the usual containers."""
    if isinstance(value, dict):
        return type(value) is dict and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, _CONTAINERS):
        return type(value) in _CONTAINERS and all(map(_is_plain, value))
    return type(value) in _PLAIN


def _can_travel(change: Change, own: tuple[str, ...]) -> bool:
    if isinstance(change.value, ModuleType):
        return False
    try:
        with pickling.by_value(own):
            Fingerprint(change.value)
        return len(pickling.dumps(change.value, own)) <= LARGEST
    except Exception:
        return False


def _is_made_here(change: Change, modules: Mapping[str, _Module]) -> bool:
    """Return whether functions of the module itself make or fill the value, as they will in a job."""
    scope = modules[change.module].scope
    if change.name not in scope.values or not isinstance(change.owner, ModuleType):
        return False
    start = scope.values[change.name]
    is_filled = type(change.value) is type(start) and isinstance(start, _CONTAINERS) and change.name in scope.used
    return is_filled or (start is None and change.name in scope.made_on_demand)


def _stale(module: _Module) -> str:
    """Return the name of a module whose file has other functions than the imported module; else an empty string."""
    if type(module.live.__loader__) is not SourceFileLoader:
        return ""
    try:
        with imports.PARSING, warnings.catch_warnings():
            # As in `imports.syntax_tree`.
            warnings.simplefilter("ignore")
            code = compile(module.source, module.live.__file__ or "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return ""
    in_file = {part.co_name: part for part in code.co_consts if isinstance(part, CodeType)}
    for name in module.scope.functions & in_file.keys():
        value = vars(module.live).get(name)
        if not isinstance(value, FunctionType) or value.__globals__ is not vars(module.live):
            continue
        if Fingerprint(value.__code__).digest != Fingerprint(in_file[name]).digest:
            return module.name
    return ""
