"""Pickling by value: cloudpickle, with what it leaves to chance settled.

Everything that goes to a job is pickled here, the program and its inputs alike, so that a class is one and the same in
both. This module imports cloudpickle and is therefore itself imported only where something is pickled.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import itertools
import pickle
import sys
import threading
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from types import CodeType, FunctionType, ModuleType
from typing import IO, Any, BinaryIO

import cloudpickle
from cloudpickle import cloudpickle as internals

from cloudknot.worker.wire import buffers
from cloudknot.worker.wire.buffers import PieceFile

Reduced = str | tuple[Any, ...]
"""How an object is pickled, as ``__reduce_ex__`` words it: by a name, or by a callable, its arguments, a state, ..."""

_LOCK = threading.RLock()
_CALLERS: weakref.WeakSet[type] = weakref.WeakSet()
_CACHED = type(functools.lru_cache(len))
_NO_FILE = "<dynamic-code>"
"""What cloudpickle, from 3.1.3 on, has in place of the file of every function: no line of it could be shown then."""
_NAMED = (type, FunctionType, _CACHED, typing.NewType, typing.TypeVar)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
    """cloudpickle's pickler, for what it takes by reference although a job could not find it there."""

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, ModuleType) and sys.modules.get(obj.__name__) is obj:
            # A module is itself never taken by value, also not when its functions are.
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, _CACHED) and not found_by_name(obj):
            return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
        if isinstance(obj, typing.NewType) and not found_by_name(obj):
            return typing.NewType, (obj.__name__, obj.__supertype__)
        if type(obj) is functools.cached_property:
            # Python 3.11's holds a lock.
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
        if isinstance(obj, CodeType):
            make, arguments = internals._code_reduce(obj)
            return make, tuple(obj.co_filename if each == _NO_FILE else each for each in arguments)
        return super().reducer_override(obj)


@dataclass(frozen=True)
class Absent:
    """What of the caller's own a job cannot import.

    ``is_absent`` tells it of a module by its name, and ``digest`` gives a class's content, for its identity.
    """

    is_absent: Callable[[str], bool]
    digest: Callable[[type], str]


class InputPickler(Pickler):
    """The pickler of inputs, which may hold what the program does not: that is taken by value."""

    def __init__(
        self,
        file: IO[bytes] | PieceFile,
        absent: Absent,
        take: Callable[[str], None],
        aside: Callable[[pickle.PickleBuffer], bool] | None = None,
    ) -> None:
        super().__init__(file, buffer_callback=aside)
        self._absent, self._take = absent, take

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, _NAMED):
            module = getattr(obj, "__module__", None)
            if isinstance(module, str) and self._absent.is_absent(module):
                self._take(module)
                if isinstance(obj, type) and identity(obj) is None and not found_by_name(obj):
                    set_identity(obj, _free_identity(self._absent.digest(obj)))
        return super().reducer_override(obj)


class _Functions(Pickler):
    """A pickler that remembers which functions it took by value."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: list[FunctionType] = []

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, FunctionType) and not found_by_name(obj):
            self.found.append(obj)
        return super().reducer_override(obj)


def functions_in(value: object, modules: Iterable[str] = ()) -> list[FunctionType]:
    """The functions that travel by value with a value; those of ``modules`` do."""
    pickler = _Functions(io.BytesIO())
    with by_value(modules):
        pickler.dump(value)
    return pickler.found


def found_by_name(obj: object) -> bool:
    """Whether a job can import an object by its module and name."""
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if (
        not module
        or not name
        or module == "__main__"
        or any(module == each or module.startswith(f"{each}.") for each in internals.list_registry_pickle_by_value())
    ):
        return False
    try:
        return attrgetter(name)(sys.modules[module]) is obj
    except (KeyError, AttributeError):
        return False


@contextmanager
def by_value(modules: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Within the block, functions and classes of these modules are pickled by value; it may name further ones."""
    ours: list[ModuleType] = []

    def take(name: str) -> None:
        module = sys.modules.get(name)
        if module and name != "__main__" and module.__name__ not in internals.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            ours.append(module)

    with _LOCK:
        try:
            for name in modules:
                take(name)
            yield take
        finally:
            for module in ours:
                cloudpickle.unregister_pickle_by_value(module)


def dumps(value: object, modules: Iterable[str] = (), absent: Absent | None = None) -> bytes:
    """Pickle a value; functions and classes of ``modules``, and those that are ``absent`` in the job, by value.

    Raises whatever the value's own parts raise when they cannot be pickled.
    """
    buffer = io.BytesIO()
    dump(value, buffer, modules, absent)
    return buffer.getvalue()


def dump(
    value: object, file: IO[bytes] | PieceFile, modules: Iterable[str] = (), absent: Absent | None = None
) -> None:
    """Pickle a value into a file as `dumps` does. A `PieceFile` gets its large buffers as they are."""
    aside = file.take if isinstance(file, PieceFile) else None
    with by_value(modules) as take:
        (InputPickler(file, absent, take, aside) if absent else Pickler(file, buffer_callback=aside)).dump(value)


def identity(cls: object) -> str | None:
    """What cloudpickle knows a class by that it pickled by value; None for any other object."""
    try:
        known: str | None = internals._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    except TypeError:
        return None
    return known


def set_identity(cls: type, known_as: str) -> None:
    """Give a class the same identity in every session.

    cloudpickle draws a random one in each. A result of a job whose image an earlier session made would then come back
    as an instance of a class that merely looks like the caller's.
    """
    with internals._DYNAMIC_CLASS_TRACKER_LOCK:
        internals._DYNAMIC_CLASS_TRACKER_BY_CLASS[cls] = known_as
        internals._DYNAMIC_CLASS_TRACKER_BY_ID[known_as] = cls
        _CALLERS.add(cls)


def numbered_identity(content: str, number: int) -> str:
    """The identity of the class that is the ``number``-th, from 1, of those with this content's digest."""
    return hashlib.sha256(f"{content} {number}".encode()).hexdigest()[:32]


def _free_identity(content: str) -> str:
    """The first identity of a content that no other class of the caller's has."""
    known = (numbered_identity(content, number) for number in itertools.count(1))
    return next(each for each in known if internals._DYNAMIC_CLASS_TRACKER_BY_ID.get(each) not in _CALLERS)


def loads(data: bytes | memoryview) -> Any:
    """Unpickle what a job sent back, and leave the caller's own classes as they are.

    cloudpickle would find the class by its identity, and then set its methods anew from the job's copy.
    """
    return buffers.loads(data, lambda pickled, **given: _Unpickler(io.BytesIO(pickled), **given).load())


def load(file: BinaryIO) -> Any:
    """`loads`, from a buffered file. What is large is read straight into the object that it becomes."""
    return buffers.load(file, _Unpickler)


def needs_loads(data: bytes) -> bool:
    """Whether pickles somewhere in ``data`` may need `loads`; the standard library's is several times faster."""
    return internals._class_setstate.__name__.encode() in data or buffers.MAGIC in data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        found = super().find_class(module, name)
        return _set_class_state if found is internals._class_setstate else found


def _set_class_state(cls: type, state: object) -> type:
    if cls not in _CALLERS:
        internals._class_setstate(cls, state)
    return cls
