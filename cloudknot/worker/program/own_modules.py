"""Give the user's own modules their names in a job, although the job does not run them.

The functions of these modules travel by value. In a job, their namespace becomes the module that other code finds by
name: `pickle`, `multiprocessing`, ``sys.modules[__name__]`` and imports. So a function and its module share one state,
as on the user's machine. Names that did not travel come from the module's file when they are first used.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import IO, Any

from cloudpickle import cloudpickle as internals

from ..wire.objects import classes

STAND_IN = Path(__file__).resolve().parent / "stand_in"
Names = Mapping[str, list[str]]
"""Functions that travel by value, by the module in which they have these names."""
Find = Callable[[str, str], object]
"""Takes a module and a name, and returns the function or class of that name, in any process of the job."""


class OwnModule(ModuleType):
    """A module whose namespace is that of the functions that travelled from it.

    Parameters
    ----------
    name : str
    file : Path or None
        Its source; None for ``__main__``.
    """

    # Not in the namespace, which the user's code sees.
    __slots__ = ("_source",)

    def __init__(self, name: str, file: Path | None) -> None:
        super().__init__(name)
        self._source = file
        # A new interpreter that multiprocessing starts runs the file of ``__main__``, unless the spec has this name.
        spec = spec_from_file_location(name, file) if file else ModuleSpec("__main__", None)
        assert spec is not None
        self.__spec__, self.__loader__ = spec, spec.loader
        if file:
            self.__file__, self.__package__ = str(file), spec.parent
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name: str) -> Any:
        """Return a name that no function refers to: a class that travelled, or anything from the module's file."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        for cls in list(internals._DYNAMIC_CLASS_TRACKER_BY_CLASS):
            if (cls.__module__, cls.__qualname__) == (self.__name__, name):
                return vars(self).setdefault(name, cls)
        source, self._source = self._source, None
        if source is not None:
            _run(source, vars(self))
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None


class _Rest(MutableMapping[str, Any]):
    """A view of a namespace that keeps what it has: only new names can be set."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace, self._kept = namespace, set(namespace)

    def __getitem__(self, name: str) -> Any:
        return self._namespace[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._kept:
            self._namespace[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self._kept:
            del self._namespace[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._namespace)

    def __len__(self) -> int:
        return len(self._namespace)


def _run(source: Path, namespace: dict[str, Any]) -> None:
    """Run a module's file in a namespace. Functions, classes and values that have travelled stay as they are."""
    code = compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
    namespace.setdefault("__builtins__", builtins)
    with _without_cloudknot():
        exec(code, namespace, _Rest(namespace))


@contextmanager
def _without_cloudknot() -> Iterator[None]:
    """Let imports of cloudknot give the stand-in: the file of a user's module may create a Knot at its end."""
    hidden = _modules_of_cloudknot()
    spec = spec_from_file_location("cloudknot", STAND_IN / "cloudknot.py")
    assert spec is not None
    assert spec.loader is not None
    stand_in = module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    for name in hidden:
        del sys.modules[name]
    sys.modules["cloudknot"] = stand_in
    try:
        yield
    finally:
        for name in _modules_of_cloudknot():
            del sys.modules[name]
        sys.modules.update(hidden)


def _modules_of_cloudknot() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "cloudknot"}


class OwnModules:
    """All modules of the user whose functions travelled by value.

    Nothing changes in this process before `enable`: code that only loads a function keeps its own ``__main__``.
    """

    def __init__(self) -> None:
        self._enabled = False
        self._modules: dict[str, OwnModule] = {}
        self._finder: Callable[[], Find] | None = None
        self._folder = Path()
        self._namespaces: dict[str, dict[str, Any]] = {}
        self._functions: list[FunctionType] = []
        self._replaced: dict[str, ModuleType | None] = {}
        self._undone_by: list[Callable[[], object]] = []

    def enable(self) -> None:
        """Let the modules of the functions that this process loads have their names in it."""
        self._enabled = True
        classes.enable()
        # As at a prompt: the arguments of the worker are not those of the user's script.
        sys.argv = [""]

    def find_files(self, folder: Path, paths: Iterable[str] = ()) -> None:
        """Let imports find the files that travelled, in this process and in those that it starts.

        Those of ``paths`` can be opened by their relative path, too, if the working directory can be written.
        """
        if str(folder) in sys.path:
            importlib.invalidate_caches()
        else:
            # Python has not looked there yet. What it knows of the other places is inherited from the fork server.
            sys.path.insert(0, str(folder))
        if self._enabled:
            # The stand-in is the last one, and the image may have the real cloudknot.
            sys.path += _stand_in()
            self.show_files(folder)
            for path in map(Path, paths):
                with suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.symlink_to(folder / path)

    def show_files(self, folder: Path) -> None:
        """Let the processes that this one starts find the files that travelled."""
        places = [str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*places, *_stand_in()]))

    def load(self, file: IO[bytes], names: Names, folder: Path, finder: Callable[[], Find] | None = None) -> Any:
        """Unpickle a function, and give its modules their names.

        Parameters
        ----------
        file : binary file
        names : mapping
            See `Names`. A module with functions that have no name in it has an empty list.
        folder : Path
            The directory of the files that travelled.
        finder : callable, optional
            Returns a `Find`, when another process needs it first. Default: other processes get functions by value.

        Raises any exception that unpickling raises.
        """
        if not self._enabled:
            return pickle.load(file)
        self._finder = finder
        self._create(names, folder)
        function = _OwnUnpickler(file, self).load()
        self._bind(names)
        return function

    def _create(self, names: Names, folder: Path) -> None:
        """Put the modules into ``sys.modules``."""
        self._folder = folder
        for name in {"__main__": [], **names}:
            file = None if name == "__main__" else _file(name, [str(folder), *sys.path])
            if name == "__main__" or file is not None:
                self._modules[name] = OwnModule(name, file)
        # The worker's own __main__ stays alive.
        for name in self._modules:
            self._replaced.setdefault(name, sys.modules.get(name))
        sys.modules.update(self._modules)
        for name in self._modules.keys() - {"__main__"}:
            # Results hold these functions and classes by value: the client's session may not find the module.
            internals.register_pickle_by_value(self._modules[name])
        self._undone_by += _set_in_parents(self._modules)
        _pickle_for_processes()

    def forget(self) -> None:
        """Undo `load`: the modules lose their names."""
        for name, module in self._replaced.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
            if name != "__main__":
                internals.unregister_pickle_by_value(self._modules[name])
        for undo in self._undone_by:
            undo()
        self._modules, self._replaced, self._undone_by = {}, {}, []

    def make_function(self, code: CodeType, namespace: dict[str, Any], *rest: Any) -> FunctionType:
        """Return a function with the namespace of its module."""
        module = self._modules.get(namespace.get("__name__", ""))
        # Another namespace of the same name, for example of code that was run by exec, stays apart.
        if module is not None and self._namespaces.setdefault(module.__name__, namespace) is namespace:
            own = vars(module)
            own.update({key: value for key, value in namespace.items() if own.get(key) is None})
            file = namespace.get("__file__")
            if module.__name__ == "__main__" and isinstance(file, str):
                # The user's path does not exist on AWS. It must not seem to work on the embedded cloud either.
                own["__file__"] = str(self._folder / os.path.basename(file))
            namespace = own
        function: FunctionType = internals._make_function(code, namespace, *rest)
        self._functions.append(function)
        return function

    def _bind(self, names: Names) -> None:
        """Give the functions their names in their modules, also those that no other function refers to."""
        inner = {id(getattr(function, "__wrapped__", None)) for function in self._functions}
        # A decorated function has the name of the one inside, which is not its value.
        for function in sorted(self._functions, key=lambda function: id(function) in inner):
            name, module = function.__qualname__, self._modules.get(function.__module__)
            if module is not None and name in names.get(function.__module__, ()):
                vars(module).setdefault(name, function)
        self._functions, self._namespaces = [], {}

    def reduce(self, obj: object) -> tuple[Any, ...] | None:
        """Return the reduction of an own function or class for another process of the job; None for other objects."""
        module = self._modules.get(getattr(obj, "__module__", None) or "")
        if module is None or not isinstance(obj, FunctionType | type):
            return None
        if self._finder is not None and _is_at(obj, module):
            return self._finder(), (module.__name__, obj.__qualname__)
        return internals.loads, (internals.dumps(obj),)

    def has(self, module: str) -> bool:
        """Return whether a module has its name in this process."""
        return module in self._modules

    def named(self, module: str, name: str) -> object:
        """Return a function or class of a module."""
        return attrgetter(name)(self._modules[module])


class _OwnUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], own: OwnModules) -> None:
        super().__init__(file)
        self._own = own

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return self._own.make_function if found is internals._make_function else found


def _stand_in() -> list[str]:
    """Return the folder of the stand-in for cloudknot, if the image has no real one."""
    return [] if _has_cloudknot() else [str(STAND_IN)]


@functools.cache
def _has_cloudknot() -> bool:
    """Return whether the image has the real cloudknot."""
    return find_spec("cloudknot") is not None


def _file(module: str, places: Iterable[str]) -> Path | None:
    """Return the file of a module, found without an import of its parents."""
    for place in places:
        base = Path(place or ".", *module.split("."))
        for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if file.is_file():
                return file
    return None


def _is_at(obj: Any, module: ModuleType) -> bool:
    """Return whether an object has its name in a module."""
    try:
        return attrgetter(obj.__qualname__)(module) is obj
    except AttributeError:
        return False


def _set_in_parents(modules: Mapping[str, ModuleType]) -> Iterator[Callable[[], object]]:
    """Make ``import pkg.own`` set ``pkg.own``, as Python does only for modules that it imports itself.

    Yields functions that undo it.
    """
    children: dict[str, dict[str, ModuleType]] = {}
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], last, module)
            yield functools.partial(vars(sys.modules[parent]).pop, last, None)
        elif parent:
            children.setdefault(parent, {})[last] = module
    if children:
        finder = _ParentFinder(children)
        sys.meta_path.insert(0, finder)
        yield functools.partial(sys.meta_path.remove, finder)


class _ParentFinder:
    """A finder of packages that sets their own submodules before their code runs."""

    def __init__(self, children: Mapping[str, Mapping[str, ModuleType]]) -> None:
        self._children = children

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        children = self._children.get(name)
        spec = PathFinder.find_spec(name, path) if children else None
        if children and spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                vars(module).update(children)
                execute(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def warm() -> None:
    """Load and find everything that `OwnModules` needs in every job."""
    # It takes a tenth of the time of a child with a short element.
    import multiprocessing.reduction  # noqa: F401

    _has_cloudknot()


def _pickle_for_processes() -> None:
    """Let ``multiprocessing`` send own functions and classes to new interpreters, too, which cannot import them."""
    from multiprocessing.reduction import ForkingPickler

    def reducer_override(pickler: ForkingPickler, obj: object) -> Any:
        reduced = own_modules.reduce(obj)
        return NotImplemented if reduced is None else reduced

    ForkingPickler.reducer_override = reducer_override  # type: ignore[method-assign,assignment]
    # A pool ends its processes by SIGTERM. The worker's reaction to it is not for them.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


own_modules = OwnModules()
"""The own modules of this process."""
