"""Pickle exceptions, also those that their own class cannot rebuild, and groups of them.

If an exception's ``__init__`` takes other arguments than it passes to its base class, the exception can be pickled but
not unpickled. So unpickling is tried here, and an exception that fails is rebuilt from its parts.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

from ..failure import rebuilt
from .reducers import ValuePickler

Setters = tuple[Callable[[BaseException, Mapping[str, object]], None], ...]
"""No function, or one that sets attributes where ``setattr`` cannot."""


def pickle_exception(error: BaseException) -> bytes:
    """Return the pickled exception, or the pickled arguments of `rebuilt`, or nothing if neither can be unpickled.

    Defer signals that raise: this function catches every exception.
    """
    if data := _whole(error):
        return data
    attributes = {name: value for name, value in attributes_of(error).items() if _tried(value, _MemberPickler)}
    data = _tried((type(error), error.args, attributes), _MemberPickler)
    return data if data and _can_rebuild(data, error) else b""


def _whole(error: BaseException) -> bytes:
    """Return the usual pickle of an exception, or nothing if unpickling it fails or loses a part."""
    data = _tried(error, ValuePickler)
    return data if data and _is_same(pickle.loads(data), error) else b""


def _can_rebuild(data: bytes, error: BaseException) -> bool:
    try:
        return _is_same(rebuilt(*pickle.loads(data)), error)
    except BaseException:
        return False


def message_of(error: BaseException) -> str:
    """Return the message of an exception. The user's ``__str__`` may raise."""
    try:
        return str(error)
    except Exception:
        return "(the message cannot be shown)"


def attributes_of(error: BaseException) -> dict[str, object]:
    """Return the attributes of an exception, also those in slots."""
    slots = [vars(cls).get("__slots__", ()) for cls in type(error).__mro__]
    names = [name for names in slots for name in ((names,) if isinstance(names, str) else names)]
    in_slots = {name: getattr(error, name) for name in names if hasattr(error, name)}
    return {name: value for name, value in in_slots.items() if name not in ("__dict__", "__weakref__")} | vars(error)


def _tried(value: object, make: Callable[..., Any]) -> bytes:
    """Return the pickle of a value, or nothing if it cannot be unpickled."""
    file = io.BytesIO()
    try:
        make(file, protocol=5).dump(value)
        pickle.loads(file.getvalue())
    except BaseException:
        # The user's code may raise anything here, also SystemExit.
        return b""
    return file.getvalue()


def _is_same(copy: BaseException, error: BaseException) -> bool:
    # An __init__ that builds the message from its arguments builds another one when it gets the message itself.
    is_alike = type(copy).__qualname__ == type(error).__qualname__ and message_of(copy) == message_of(error)
    # pickle leaves out slots.
    return is_alike and attributes_of(copy).keys() >= _travelling(attributes_of(error))


def _travelling(attributes: Mapping[str, object]) -> set[str]:
    return {name for name, value in attributes.items() if _tried(value, _MemberPickler)}


class _MemberPickler(ValuePickler):
    """A pickler for the parts of an exception. Each exception among them can be unpickled, if need be as another.

    ``on_trial`` is an exception to rebuild from its parts, and ``setters`` the ways to set its attributes.
    """

    def __init__(
        self, file: IO[bytes], protocol: int, on_trial: BaseException | None = None, setters: Setters = ()
    ) -> None:
        super().__init__(file, protocol=protocol)
        self._on_trial, self._setters = on_trial, setters

    def reducer_override(self, obj: Any) -> object:
        if not isinstance(obj, BaseException):
            return super().reducer_override(obj)
        if obj is self._on_trial:
            return _by_parts(obj, self._setters)
        if _whole(obj):
            return super().reducer_override(obj)
        # Only a frozen class needs the function, which another version of Python cannot load.
        for setters in ((), (_set_attributes,)):
            if _tried(obj, partial(_MemberPickler, on_trial=obj, setters=setters)):
                return _by_parts(obj, setters)
        return _stand_in(obj)


def _by_parts(error: BaseException, setters: Setters) -> tuple[Any, ...]:
    """Return the reduction of an exception that rebuilds it without calling its ``__init__``."""
    attributes = {name: value for name, value in attributes_of(error).items() if _tried(value, _MemberPickler)}
    make: tuple[Any, ...] = copyreg.__newobj__, (type(error), *error.args)  # type: ignore[attr-defined]
    return (*make, attributes, None, None, *setters) if setters else (*make, attributes or None)


def _set_attributes(error: BaseException, attributes: Mapping[str, object]) -> None:
    for name, value in attributes.items():
        object.__setattr__(error, name, value)


# This module has another name in a session. A function of __main__ travels by value, inside the pickle.
_set_attributes.__module__ = "__main__"


def _stand_in(error: BaseException) -> tuple[Any, ...]:
    """Return the reduction of an exception of the nearest class of Python's own, for one that nobody can rebuild."""
    # So the other members of its group arrive, and `except*` finds this one.
    own = next(cls for cls in type(error).__mro__ if cls.__module__ == "builtins")
    kind = Exception if issubclass(own, BaseExceptionGroup) or own is BaseException else own
    return kind, (f"{type(error).__qualname__}: {message_of(error)}",)
