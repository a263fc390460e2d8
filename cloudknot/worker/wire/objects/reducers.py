"""Reduce objects that cloudpickle cannot pickle, or pickles by a reference that the other side cannot resolve.

Functions, inputs and results need these reducers: a result may be an instance of a class that travelled by value.
"""

from __future__ import annotations

import functools
import queue
import struct
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar
from operator import attrgetter
from pickle import PicklingError
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as internals

Reduced = str | tuple[Any, ...]
"""The result of ``__reduce_ex__``: a name, or a tuple of a callable, its arguments, a state and so on."""
LRU_CACHE = type(functools.lru_cache(len))


def _new_variable(variable: ContextVar[Any]) -> Callable[..., ContextVar[Any]]:
    """Return a function that takes the name of a context variable, and makes one with the same default."""
    try:
        return functools.partial(ContextVar, default=Context().run(variable.get))
    except LookupError:
        return ContextVar


def _new_weak(holder: Any) -> Reduced:
    """Return the reduction of a weak dictionary. One with content is refused."""
    # Most are caches. Objects that only other parts of the session keep alive would be gone in the job, unnoticed.
    if holder:
        raise PicklingError(f"its {len(holder)} objects are kept alive elsewhere; empty it, or use a dict")
    return type(holder), ()


RENEWED: dict[type, Callable[[Any], Reduced]] = {
    type(threading.Lock()): lambda _: (threading.Lock, ()),
    type(threading.RLock()): lambda _: (threading.RLock, ()),
    threading.local: lambda _: (threading.local, ()),
    queue.SimpleQueue: lambda _: (queue.SimpleQueue, ()),
    ThreadPoolExecutor: lambda pool: (ThreadPoolExecutor, (pool._max_workers,)),
    struct.Struct: lambda layout: (struct.Struct, (layout.format,)),
    ContextVar: lambda variable: (_new_variable(variable), (variable.name,)),
    weakref.WeakValueDictionary: _new_weak,
    weakref.WeakKeyDictionary: _new_weak,
}
"""Objects that belong to one process and hold nothing of the user's. A function gets new ones in a job."""


def _variable(variable: Any) -> Reduced:
    """Return the reduction of a ``ParamSpec`` or ``TypeVarTuple``."""
    choices = {"bound": "__bound__", "covariant": "__covariant__", "contravariant": "__contravariant__"}
    options = {name: getattr(variable, attribute, None) for name, attribute in choices.items()}
    options = {name: value for name, value in options.items() if value}
    # From Python 3.13 on.
    if getattr(variable, "has_default", bool)() and hasattr(typing, "NoDefault"):
        options["default"] = variable.__default__
    make: Callable[..., Any] = type(variable)
    return functools.partial(make, **options) if options else make, (variable.__name__,)


def _dispatch(function: Any) -> Reduced:
    """Return the reduction of a `functools.singledispatch` function, without its cache of this session."""
    made = functools.singledispatch(_implementation)
    attributes = {name: value for name, value in vars(function).items() if name not in vars(made)}
    attributes["__wrapped__"] = function.__wrapped__
    state = (dict(function.registry), attributes)
    return functools.singledispatch, (function.__wrapped__,), state, None, None, _fill_dispatch


def _dispatch_method(method: Any) -> Reduced:
    """Return the reduction of a `functools.singledispatchmethod`, without the cache that Python 3.13 adds."""
    return functools.singledispatchmethod, (method.func,), {"dispatcher": method.dispatcher}


def _fill_dispatch(dispatch: Any, state: tuple[Mapping[type, Callable[..., Any]], Mapping[str, Any]]) -> None:
    implementations, attributes = state
    for cls, implementation in implementations.items():
        dispatch.register(cls, implementation)
    vars(dispatch).update(attributes)


# This module has another name in a job. A function of __main__ travels by value, inside the pickle.
_fill_dispatch.__module__ = "__main__"


def _implementation(x: object) -> object:
    return x


_DISPATCH_CODE = functools.singledispatch(_implementation).__code__  # type: ignore[attr-defined]


def _new_type(new: typing.NewType) -> Reduced:
    return typing.NewType, (new.__name__, new.__supertype__)


def _cached(function: Any) -> Reduced:
    return functools.lru_cache(**function.cache_parameters()), (function.__wrapped__,)


def _cached_property(cached: functools.cached_property[Any]) -> Reduced:
    # In Python 3.11 it holds a lock, and locks cannot be pickled.
    return functools.cached_property, (cached.func,), {"attrname": cached.attrname, "__doc__": cached.__doc__}


def _alias(alias: Any) -> Reduced:
    """Return the reduction of a ``TypeAliasType``."""
    kind: Callable[..., Any] = type(alias)
    make = functools.partial(kind, type_params=tuple(alias.__type_params__))
    return make, (alias.__name__, alias.__value__)


_VARIABLES = (typing.ParamSpec, typing.TypeVarTuple)


def reducer_of(obj: Any) -> Callable[[Any], Reduced] | None:
    """Return the reducer for an object; None if cloudpickle and `pickle` need none."""
    kind = type(obj)
    if kind is functools.cached_property:
        return _cached_property
    if kind is functools.singledispatchmethod:
        return _dispatch_method
    if kind is LRU_CACHE:
        reducer: Callable[[Any], Reduced] | None = _cached
    elif kind is types.FunctionType:
        reducer = _dispatch if obj.__code__ is _DISPATCH_CODE else None
    elif kind in _VARIABLES:
        reducer = _variable
    elif kind is typing.NewType:
        reducer = _new_type
    elif kind.__name__ == "TypeAliasType":
        # typing has this type from Python 3.12 on, and typing_extensions has its own.
        reducer = _alias
    else:
        return None
    return reducer if reducer and not is_importable(obj) else None


def is_importable(obj: object) -> bool:
    """Return whether the other side can import an object by its module and name."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not module or not name or module == "__main__":
        return False
    registered = internals.list_registry_pickle_by_value()
    if any(module == parent or module.startswith(f"{parent}.") for parent in registered):
        return False
    try:
        return attrgetter(name)(sys.modules[module]) is obj
    except (KeyError, AttributeError):
        return False


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
    """cloudpickle's pickler with these reducers."""

    def reducer_override(self, obj: object) -> object:
        reducer = reducer_of(obj)
        return reducer(obj) if reducer else super().reducer_override(obj)
