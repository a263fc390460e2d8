"""Forked processes: replace locks, connections and threads of the parent in the child.

A fork copies locks that other threads of the parent hold, and connections that the parent goes on using. It does not
copy threads. So without this module a child that waits for the result of a future would wait forever. This is the only
module that uses `os.register_at_fork`.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import Protocol, TypeVar

GIVE_UP = 1.0
"""Seconds after which a fork goes on although another thread holds a lock of `hold_during_fork`."""


class _Lock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...


class Forkable(Protocol):
    """An object with state that a forked process cannot use."""

    def after_fork(self) -> None:
        """Replace that state in the child."""


L = TypeVar("L", bound=_Lock)

_locks: weakref.WeakSet[_Lock] = weakref.WeakSet()
_objects: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held_during_fork: list[_Lock] = []
_held: list[_Lock] = []


def renewed(lock: L) -> L:
    """Return a lock that is free in every forked process, whoever holds it in the parent."""
    _locks.add(lock)
    return lock


def renew(forkable: Forkable) -> None:
    """Call ``after_fork`` of an object in every forked process, as long as the object exists."""
    _objects.add(forkable)


def hold_during_fork(lock: L) -> L:
    """Return a `renewed` lock that the forking thread holds during a fork. So the data that it guards are whole."""
    _held_during_fork.append(lock)
    return renewed(lock)


def _before() -> None:
    # A thread may hold the lock for long, or may itself wait for this one. The child then takes the data as they are.
    _held.extend(lock for lock in _held_during_fork if lock.acquire(timeout=GIVE_UP))


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for lock in list(_locks):
        # The standard library does the same with its own locks.
        lock._at_fork_reinit()  # type: ignore[attr-defined]
    for forkable in list(_objects):
        forkable.after_fork()


# Windows has no forks.
if sys.platform != "win32":
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
