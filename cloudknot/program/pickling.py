"""Pickle by value with cloudpickle, but give classes the same identity in every session.

Programs and their inputs are both pickled here, so a class is the same in both. This module imports cloudpickle, so it
is imported only where something is pickled.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import itertools
import pickle
import sys
import threading
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import IO, Any, BinaryIO

import cloudpickle
from cloudpickle import cloudpickle as internals

from cloudknot.aws.sdk import forks
from cloudknot.program.inputs.generators import by_name, is_generator
from cloudknot.program.inputs.met_modules import MetModules
from cloudknot.worker.wire import buffers
from cloudknot.worker.wire.buffers import PieceFile
from cloudknot.worker.wire.objects import classes, reducers
from cloudknot.worker.wire.objects.reducers import Reduced, is_importable

# cloudpickle's registry of modules to pickle by value is global, so one thread at a time may change and use it.
_LOCK = forks.renewed(threading.RLock())
# The classes that this session pickled by value, as opposed to those that arrived in a job's results.
_CALLER_CLASSES: weakref.WeakSet[type] = weakref.WeakSet()
# From version 3.1.3 on, cloudpickle replaces every function's file name by this, and tracebacks could show no line.
_DYNAMIC_FILE = "<dynamic-code>"
# Objects of these types are usually pickled as a reference to their module and name.
_REFERENCED_TYPES = (type, FunctionType, BuiltinFunctionType, reducers.LRU_CACHE, typing.NewType, typing.TypeVar)


class Pickler(reducers.ValuePickler):
    """The pickler for functions: they get new locks, and modules by name."""

    renewed: Mapping[type, Callable[[Any], Reduced]] = reducers.RENEWED

    def reducer_override(self, obj: object) -> object:
        if type(obj) in self.renewed:
            return self.renewed[type(obj)](obj)
        if isinstance(obj, ModuleType):
            return _module(obj)
        if reduced := by_name(obj):
            return reduced
        if isinstance(obj, CodeType):
            make, arguments = internals._code_reduce(obj)
            # Under `python -bb`, a comparison of bytes with a text is an error.
            return make, tuple(
                obj.co_filename if type(argument) is str and argument == _DYNAMIC_FILE else argument
                for argument in arguments
            )
        return super().reducer_override(obj)


def _module(module: ModuleType) -> Reduced:
    """Return the reduction of a module: its name, or its content if it has none, as after ``module_from_spec``."""
    if sys.modules.get(module.__name__) is module:
        # cloudpickle would pickle the content of a registered module. Only its functions should travel.
        return importlib.import_module, (module.__name__,)
    # Places of this machine are no part of the content.
    places = ("__builtins__", "__spec__", "__loader__", "__file__", "__cached__")
    content = {name: value for name, value in vars(module).items() if name not in places}
    return internals.dynamic_subimport, (module.__name__, {}), content


@dataclass(frozen=True)
class MissingModules:
    """The user's own modules that a job cannot import.

    Attributes
    ----------
    is_missing : callable
        Takes the name of a module, and returns whether a job lacks it.
    digest : callable
        Takes a class, and returns the digest of its content, for its identity.
    """

    is_missing: Callable[[str], bool]
    digest: Callable[[type], str]


class InputPickler(Pickler):
    """A pickler for inputs. They may hold classes and functions of modules that do not travel with the program."""

    # Elements that share a lock here would each get one of their own.
    renewed: Mapping[type, Callable[[Any], Reduced]] = {}

    def __init__(
        self,
        file: IO[bytes] | PieceFile,
        missing: MissingModules,
        register: Callable[[str], None],
        buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
        met: MetModules | None = None,
    ) -> None:
        super().__init__(file, buffer_callback=buffer_callback)
        self._missing, self._register, self._met = missing, register, met or MetModules()

    def reducer_override(self, obj: object) -> object:
        # Most objects of many elements have one of a few types, and are pickled as `pickle` does it.
        if type(obj) in self._met.plain:
            return NotImplemented
        # The modules are not known in advance: an input may be an instance of any class.
        if isinstance(obj, _REFERENCED_TYPES):
            module = getattr(obj, "__module__", None)
            if module not in self._met.importable and isinstance(module, str):
                self._meet(obj, module)
            return super().reducer_override(obj)
        # Some objects, such as a module or a ufunc of numpy, are pickled without their class.
        name = obj.__name__ if isinstance(obj, ModuleType) else type(obj).__module__
        if name not in self._met.importable and name not in self._met.by_value:
            self._meet(obj, name)
        reduced = super().reducer_override(obj)
        # One object of these types may be a global generator, which is pickled in another way than the others.
        is_alike = not isinstance(obj, ModuleType) and not is_generator(obj)
        if reduced is NotImplemented and is_alike:
            self._met.plain.add(type(obj))
        return reduced

    def _meet(self, obj: object, module: str) -> None:
        """Note a module, and register it if its objects travel by value."""
        if not self._missing.is_missing(module):
            self._met.importable.add(module)
            return
        self._met.by_value.add(module)
        if isinstance(obj, _REFERENCED_TYPES):
            self._register(module)
            if isinstance(obj, type) and identity(obj) is None and not is_importable(obj):
                set_identity(obj, _free_identity(self._missing.digest(obj)))


class _FunctionCollector(Pickler):
    """A pickler that remembers the functions that it pickles by value."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.functions: list[FunctionType] = []

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, FunctionType) and not is_importable(obj):
            self.functions.append(obj)
        return super().reducer_override(obj)


def functions_in(value: object, modules: Iterable[str] = ()) -> list[FunctionType]:
    """Return the functions that are pickled by value with a value, including those of ``modules``."""
    pickler = _FunctionCollector(io.BytesIO())
    with by_value(modules):
        pickler.dump(value)
    return pickler.functions


@contextmanager
def by_value(modules: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Pickle functions and classes of these modules by value within the block.

    Yields
    ------
    callable
        Registers a further module for the rest of the block.
    """
    registered: list[ModuleType] = []

    def register(name: str) -> None:
        module = sys.modules.get(name)
        # A module that the user registered stays registered after the block, so it is left alone here.
        if module and name != "__main__" and module.__name__ not in internals.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)

    with _LOCK:
        try:
            for name in modules:
                register(name)
            yield register
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


def dumps(value: object, modules: Iterable[str] = (), missing: MissingModules | None = None) -> bytes:
    """Return the pickle of a value.

    Functions and classes of ``modules``, and of modules ``missing`` in the job, are pickled by value. Raises any
    exception that the value's parts raise.
    """
    buffer = io.BytesIO()
    dump(value, buffer, modules, missing)
    return buffer.getvalue()


def dump(
    value: object,
    file: IO[bytes] | PieceFile,
    modules: Iterable[str] = (),
    missing: MissingModules | None = None,
    met: MetModules | None = None,
) -> None:
    """Pickle a value into a file as `dumps` does. A `PieceFile` gets large buffers without a copy.

    With ``missing``, ``met`` gets the modules that the pickle names.
    """
    callback = file.take if isinstance(file, PieceFile) else None
    with by_value(modules) as register:
        if missing:
            InputPickler(file, missing, register, callback, met).dump(value)
        else:
            Pickler(file, buffer_callback=callback).dump(value)


def identity(cls: object) -> str | None:
    """Return cloudpickle's id of a class pickled by value, or None for any other object."""
    try:
        class_id: str | None = internals._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    except TypeError:
        return None
    return class_id


def set_identity(cls: type, class_id: str) -> None:
    """Give a class pickled by value the same identity in every session."""
    # cloudpickle draws a random identity in each session. A result from an image that an earlier session made would
    # then be an instance of a class that only looks like the caller's.
    with internals._DYNAMIC_CLASS_TRACKER_LOCK:
        internals._DYNAMIC_CLASS_TRACKER_BY_CLASS[cls] = class_id
        internals._DYNAMIC_CLASS_TRACKER_BY_ID[class_id] = cls
        _CALLER_CLASSES.add(cls)


def numbered_identity(content: str, number: int) -> str:
    """Return the identity of the ``number``-th class, from 1, with the content digest ``content``."""
    return hashlib.sha256(f"{content} {number}".encode()).hexdigest()[:32]


def _free_identity(content: str) -> str:
    """Return the first free identity for a class with this content digest."""
    class_ids = (numbered_identity(content, number) for number in itertools.count(1))
    tracked = internals._DYNAMIC_CLASS_TRACKER_BY_ID
    return next(class_id for class_id in class_ids if tracked.get(class_id) not in _CALLER_CLASSES)


def loads(data: bytes | memoryview | buffers.ReceivedPickle) -> Any:
    """Unpickle a job's result, and leave the caller's own classes unchanged."""
    return buffers.loads(data, lambda pickled, **keywords: _Unpickler(io.BytesIO(pickled), **keywords).load())


def load(file: BinaryIO) -> Any:
    """Unpickle as `loads` does, from a buffered file. Large buffers are read straight into their objects."""
    return buffers.load(file, _Unpickler)


def needs_loads(data: bytes) -> bool:
    """Return whether the pickles in ``data`` may need `loads`."""
    # pickle.loads is several times faster, and right for most results.
    return internals._class_setstate.__name__.encode() in data or buffers.MAGIC in data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        found = super().find_class(module, name)
        if found is internals._make_skeleton_class:
            return classes.known_or_new
        return _set_class_state if found is internals._class_setstate else found


def _set_class_state(cls: type, state: object) -> type:
    # cloudpickle finds the caller's class by its identity, and would then overwrite its methods with the job's copies.
    if cls not in _CALLER_CLASSES:
        internals._class_setstate(cls, state)
    return cls
