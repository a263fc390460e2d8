"""Everybody who waits for a map: by a call, by a callback that has not run, or with `concurrent.futures.wait`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures._base import _Waiter as Waiter
from contextlib import contextmanager
from itertools import compress
from typing import Any

from cloudknot.run.collect.element_table import CANCELLED, VALUE, Ended

logger = logging.getLogger("cloudknot")

LOCK = threading.RLock()
"""The lock of the tables and futures of all maps: `concurrent.futures` locks futures in the order of their ids, and in
that order futures of two maps alternate."""
Callback = Callable[[Any], object]


class Calls:
    """Counts who waits and which callbacks have not run, so that the interpreter does not end under them."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int) -> None:
        with self._lock:
            self._count += number

    @contextmanager
    def one(self) -> Iterator[None]:
        self.add(1)
        try:
            yield
        finally:
            self.add(-1)


class Waiters:
    """Everybody who waits for the elements of one map, or for the map.

    Whoever changes the table of elements, or this, holds ``condition``.

    Attributes
    ----------
    condition : Condition
        Notified when elements end.
    calls : Calls
    of_map : MapWaiters
        Waiters of the standard library for the map's own future.
    of_elements : ElementWaiters
        Waiters of the standard library for futures of elements.
    callbacks : dict
        Callbacks of the elements' futures, by index.
    """

    def __init__(self, count: int) -> None:
        self.condition = threading.Condition(LOCK)
        self.calls = Calls()
        self.of_map, self.of_elements = MapWaiters(self), ElementWaiters(self, count)
        self.callbacks: dict[int, list[Callback]] = {}
        self._listeners: dict[int, deque[Ended]] = {}
        self._collect: Callable[[], None] = _nobody

    def __bool__(self) -> bool:
        """Return whether somebody waits, so that the interpreter must not end."""
        return bool(self.calls or self.of_map or self.of_elements)

    def serve(self, collect: Callable[[], None]) -> None:
        """Call ``collect`` from now on whenever somebody begins to wait."""
        self._collect = collect

    def collect(self) -> None:
        """Have results collected, also when nobody did any more."""
        self._collect()

    def listen(self, so_far: Ended) -> deque[Ended]:
        """Return a queue of ends of elements, which begins with ``so_far``. Hold ``condition``."""
        news = deque([so_far])
        self._listeners[id(news)] = news
        return news

    def leave(self, news: deque[Ended]) -> None:
        """Add nothing more to a queue."""
        # Without a lock: the garbage collector closes generators in any thread, whatever that one holds.
        self._listeners.pop(id(news), None)

    def remove_callback(self, index: int, callback: Callback) -> None:
        """Forget a callback of an element's future, if it has not been called."""
        with self.condition:
            left = [each for each in self.callbacks.pop(index, ()) if each is not callback]
            if left:
                self.callbacks[index] = left

    def wake(self, ended: Ended) -> list[Callback]:
        """Wake those who wait for elements that have ended; return their callbacks, to run. Hold ``condition``."""
        start, flags = ended
        for news in list(self._listeners.values()):
            news.append(ended)
        self.condition.notify_all()
        if not self.callbacks:
            return []
        indices = (index for index in compress(range(start, start + len(flags)), flags) if index in self.callbacks)
        return [callback for index in list(indices) for callback in self.callbacks.pop(index)]


class ElementWaiters:
    """The waiters of `concurrent.futures.wait` and `as_completed`, for all of a map's elements together.

    The standard library appends one waiter to a list in each future that is waited for. Here it takes one byte each.
    """

    def __init__(self, waiters: Waiters, count: int) -> None:
        self._waiters, self._count = waiters, count
        self._flags: dict[Waiter, bytearray] = {}
        self._numbers: dict[Waiter, int] = {}

    def __bool__(self) -> bool:
        return bool(self._flags)

    def of(self, index: int) -> _WaitersOfOne:
        """Return an object that looks like the list of waiters of one element."""
        return _WaitersOfOne(self, index)

    def add(self, waiter: Waiter, index: int) -> None:
        if waiter not in self._flags:
            self._flags[waiter], self._numbers[waiter] = bytearray(self._count), 0
        self._numbers[waiter] += 1 - self._flags[waiter][index]
        self._flags[waiter][index] = 1
        self._waiters.collect()

    def remove(self, waiter: Waiter, index: int) -> None:
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
        for waiter, wanted in list(self._flags.items()):
            numbers = compress(range(start, start + len(flags)), flags)
            yield waiter, filter(wanted.__getitem__, numbers)


class _WaitersOfOne:
    """As much of a list as `concurrent.futures` uses."""

    def __init__(self, waiters: ElementWaiters, index: int) -> None:
        self._waiters, self._index = waiters, index

    def append(self, waiter: Waiter) -> None:
        self._waiters.add(waiter, self._index)

    def remove(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter, self._index)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.all(self._index))


class MapWaiters(list[Waiter]):
    """The waiters of a map's own future: a new one has results collected, also when nobody did any more."""

    def __init__(self, waiters: Waiters) -> None:
        super().__init__()
        self._waiters = waiters

    def append(self, waiter: Waiter) -> None:
        super().append(waiter)
        self._waiters.collect()


def tell(waiter: Waiter, element: Future[Any], state: int) -> None:
    """Tell one who waits for an element's future how it has ended."""
    if state == VALUE:
        waiter.add_result(element)
    elif state == CANCELLED:
        waiter.add_cancelled(element)
    else:
        waiter.add_exception(element)


def run_all(callbacks: Iterable[Callback]) -> None:
    """Run callbacks of elements' futures; one that fails, or wants its thread to end, does not stop the others.

    The main thread ends, or is interrupted, when all have run.
    """
    wanted: BaseException | None = None
    for callback in callbacks:
        try:
            callback(None)
        except BaseException as error:
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                wanted = wanted or error
            else:
                logger.exception("A callback of an element's future failed")
    if wanted is not None:
        raise wanted


def _nobody() -> None:
    """There is nothing to collect for an empty map."""
