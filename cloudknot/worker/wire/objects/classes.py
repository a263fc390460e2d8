"""Make the classes of a pickle without the code that runs when Python executes a ``class`` statement.

That code has run where the class statement was, and its effects travel. For example, ``__init_subclass__`` of a base
class has added the class to a list. Run again, it would add the class twice, or lack its keyword arguments.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloudpickle import cloudpickle as internals

_make_skeleton = internals._make_skeleton_class
_HOOK = "__init_subclass__"
# Making a class removes hooks from its bases for a moment.
_LOCK = threading.RLock()


def known_class(class_id: str | None) -> type | None:
    """Return the class with an identity of cloudpickle's; None if this process has none."""
    cls: type | None = internals._DYNAMIC_CLASS_TRACKER_BY_ID.get(class_id) if class_id else None
    return cls


def known_or_new(kind: type, name: str, bases: Any, attributes: Any, class_id: str | None, extra: object) -> type:
    """Return the class with an identity, or make an empty one as cloudpickle does."""
    # cloudpickle makes a class in any case, and then returns the known one.
    cls: type = known_class(class_id) or _make_skeleton(kind, name, bases, attributes, class_id, extra)
    return cls


@functools.wraps(_make_skeleton)
def _make_quietly(kind: type, name: str, bases: Any, attributes: Any, class_id: str | None, extra: object) -> type:
    known = known_class(class_id)
    if known is not None:
        return known
    resolved = types.resolve_bases(bases)
    with _LOCK, _without_hooks(resolved):
        if not _has_travelled(kind):
            cls: type = _make_skeleton(kind, name, bases, attributes, class_id, extra)
            return cls
        namespace = {sys.intern(key): value for key, value in attributes.items()}
        if resolved is not bases:
            namespace["__orig_bases__"] = bases
        return _tracked(class_id, _new(kind, name, resolved, namespace))


def _new(kind: type, name: str, bases: tuple[type, ...], namespace: Mapping[str, Any]) -> type:
    """Make a class of a metaclass that has travelled, by the nearest metaclass above it that has not."""
    above: Any = next(meta for meta in kind.__mro__ if not _has_travelled(meta))
    cls: type = above.__new__(kind, name, bases, dict(namespace))
    above.__init__(cls, name, bases, dict(namespace))
    return cls


def _tracked(class_id: str | None, cls: type) -> type:
    tracked: type = internals._lookup_class_or_track(class_id, cls)
    return tracked


def _has_travelled(cls: type) -> bool:
    return cls in internals._DYNAMIC_CLASS_TRACKER_BY_CLASS


@contextmanager
def _without_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Remove ``__init_subclass__`` from base classes that have travelled, within the block."""
    owners = {cls: vars(cls)[_HOOK] for base in bases for cls in base.__mro__ if _HOOK in vars(cls)}
    hooks = {cls: hook for cls, hook in owners.items() if _has_travelled(cls)}
    for cls in hooks:
        delattr(cls, _HOOK)
    try:
        yield
    finally:
        for cls, hook in hooks.items():
            setattr(cls, _HOOK, hook)


def enable() -> None:
    """Let every unpickling in this process make its classes quietly. For a job, where the program has travelled."""
    internals._make_skeleton_class = _make_quietly
