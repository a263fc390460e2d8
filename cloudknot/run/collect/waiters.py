"""The waiters of a map: calls that block, callbacks that have not run, and waiters of `concurrent.futures`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures._base import _Waiter as Waiter
from contextlib import contextmanager
from itertools import compress
from typing import Any

from cloudknot.aws.sdk import forks
from cloudknot.options import streams
from cloudknot.run.collect.element_table import CANCELLED, VALUE, Ended

# `concurrent.futures` locks many futures in the order of their ids, and in this order the futures of two maps may
# alternate. With a lock for each map, two threads could wait for each other.
LOCK = forks.hold_during_fork(threading.RLock())
"""The lock of the tables and futures of all maps."""
Callback = Callable[[Any], object]


class Calls:
    """A count of blocking calls and of callbacks that have not run. The interpreter must not end before it is 0."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = forks.renewed(threading.Lock())

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int) -> None:
        """Add to the count, or subtract from it."""
        with self._lock:
            self._count += number

    def forget(self) -> None:
        """Set the count to 0."""
        self._count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one more inside the block."""
        self.add(1)
        try:
            yield
        finally:
            self.add(-1)


class Waiters:
    """The waiters for the elements of one map, and for the map.

    Hold ``condition`` to change the table of elements or the waiters.

    Attributes
    ----------
    condition : Condition
        Notified when elements end.
    calls : Calls
        Blocking calls and callbacks.
    of_map : MapWaiters
        Waiters of the standard library for the future of the map.
    of_elements : ElementWaiters
        Waiters of the standard library for the futures of elements.
    callbacks : dict
        Callbacks of the futures of elements, by index.
    """

    def __init__(self, count: int) -> None:
        self.condition = threading.Condition(LOCK)
        self.calls = Calls()
        self.of_map, self.of_elements = MapWaiters(self), ElementWaiters(self, count)
        self.callbacks: dict[int, list[Callback]] = {}
        self._listeners: dict[int, deque[Ended]] = {}
        self._collect: Callable[[], None] = _collect_nothing

    def forget(self) -> None:
        """Drop everything that waits in the parent of a forked process. The parent's callbacks run only there."""
        self.calls.forget()
        self.callbacks.clear()
        self.of_map.clear()
        self.of_elements.forget()

    def __bool__(self) -> bool:
        """Return whether anything waits, so that the interpreter must not end."""
        return bool(self.calls or self.of_map or self.of_elements)

    def serve(self, collect: Callable[[], None]) -> None:
        """Call ``collect`` from now on whenever a wait begins."""
        self._collect = collect

    def collect(self) -> None:
        """Make sure that the collector runs."""
        self._collect()

    def listen(self, so_far: Ended) -> deque[Ended]:
        """Return a queue that gets the elements that end, after ``so_far``. Hold ``condition``."""
        queue = deque([so_far])
        self._listeners[id(queue)] = queue
        return queue

    def stop_listening(self, queue: deque[Ended]) -> None:
        """Stop adding elements to a queue that `listen` returned."""
        # Without a lock, because the garbage collector may close a generator in a thread that holds any lock.
        self._listeners.pop(id(queue), None)

    def remove_callback(self, index: int, callback: Callback) -> None:
        """Remove a callback of an element's future, unless it has been called."""
        with self.condition:
            remaining = [other for other in self.callbacks.pop(index, ()) if other is not callback]
            if remaining:
                self.callbacks[index] = remaining

    def wake(self, ended: Ended) -> list[Callback]:
        """Wake the waiters for elements that have just ended; return the callbacks to run. Hold ``condition``."""
        start, flags = ended
        for queue in list(self._listeners.values()):
            queue.append(ended)
        self.condition.notify_all()
        # The common case, without a look-up for each of up to a million elements.
        if not self.callbacks:
            return []
        indices = (index for index in compress(range(start, start + len(flags)), flags) if index in self.callbacks)
        return [callback for index in list(indices) for callback in self.callbacks.pop(index)]


class ElementWaiters:
    """The waiters of `concurrent.futures.wait` and `as_completed` for all elements of a map together."""

    # The standard library appends a waiter to a list in each future. Here it takes one byte for each element.

    def __init__(self, waiters: Waiters, count: int) -> None:
        self._waiters, self._count = waiters, count
        self._flags: dict[Waiter, bytearray] = {}
        self._numbers: dict[Waiter, int] = {}

    def __bool__(self) -> bool:
        return bool(self._flags)

    def forget(self) -> None:
        """Drop all waiters."""
        self._flags.clear()
        self._numbers.clear()

    def list_for(self, index: int) -> _WaiterList:
        """Return an object that looks like the list of waiters of one element."""
        return _WaiterList(self, index)

    def add(self, waiter: Waiter, index: int) -> None:
        """Add a waiter for an element."""
        if waiter not in self._flags:
            self._flags[waiter], self._numbers[waiter] = bytearray(self._count), 0
        self._numbers[waiter] += 1 - self._flags[waiter][index]
        self._flags[waiter][index] = 1
        self._waiters.collect()

    def remove(self, waiter: Waiter, index: int) -> None:
        """Remove a waiter for an element. Raises ValueError, as `list.remove` does, if there was no such waiter."""
        if not self.has(waiter, index):
            raise ValueError(f"{waiter!r} does not wait for element {index}")
        self._flags[waiter][index] = 0
        self._numbers[waiter] -= 1
        if not self._numbers[waiter]:
            del self._flags[waiter], self._numbers[waiter]

    def has(self, waiter: Waiter, index: int) -> bool:
        return waiter in self._flags and bool(self._flags[waiter][index])

    def all(self, index: int) -> list[Waiter]:
        return [waiter for waiter, flags in self._flags.items() if flags[index]]

    def ended(self, start: int, flags: bytes) -> Iterator[tuple[Waiter, Iterator[int]]]:
        """Yield each waiter, with the elements that have just ended and that it waits for."""
        for waiter, waits_for in list(self._flags.items()):
            numbers = compress(range(start, start + len(flags)), flags)
            yield waiter, filter(waits_for.__getitem__, numbers)


class _WaiterList:
    """The part of a list that `concurrent.futures` uses, for the waiters of one element."""

    def __init__(self, waiters: ElementWaiters, index: int) -> None:
        self._waiters, self._index = waiters, index

    def append(self, waiter: Waiter) -> None:
        self._waiters.add(waiter, self._index)

    def remove(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter, self._index)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.all(self._index))


class MapWaiters(list[Waiter]):
    """The waiters of the future of a map. A new waiter starts the collector if necessary."""

    def __init__(self, waiters: Waiters) -> None:
        super().__init__()
        self._waiters = waiters

    def append(self, waiter: Waiter) -> None:
        super().append(waiter)
        self._waiters.collect()


def notify(waiter: Waiter, element: Future[Any], state: int) -> None:
    """Pass an ended future of an element to a waiter."""
    if state == VALUE:
        waiter.add_result(element)
    elif state == CANCELLED:
        waiter.add_cancelled(element)
    else:
        waiter.add_exception(element)


def run_all(callbacks: Iterable[Callback]) -> None:
    """Run callbacks of the futures of elements, all of them even if one raises.

    In the main thread, KeyboardInterrupt and SystemExit are raised again after the last callback.
    """
    interrupt: BaseException | None = None
    for callback in callbacks:
        try:
            callback(None)
        except BaseException as error:
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                interrupt = interrupt or error
            else:
                # Also SystemExit: it would end the collector's thread, and with it all waits for the map.
                streams.logger.exception("A callback of an element's future failed")
    if interrupt is not None:
        raise interrupt


def _collect_nothing() -> None:
    """Do nothing: an empty map has no collector."""
