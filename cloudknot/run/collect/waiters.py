"""Who waits for a map: by a call, by a callback that has not run, or with `concurrent.futures.wait`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import compress
from typing import Any, Protocol

from cloudknot.display.terminal import at_prompt
from cloudknot.run.collect.element_table import CANCELLED, VALUE

logger = logging.getLogger("cloudknot")


class Waiting:
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


class Screen(Protocol):
    """Where progress is shown; `cloudknot.display.progress.Progress` is one."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


@contextmanager
def attended(
    waiting: Waiting, collect: Callable[[], None], screen: Screen | None, how_to_return: str
) -> Iterator[None]:
    """Somebody waits meanwhile, so results are collected. If Ctrl-C ends that, they are told what goes on.

    After Ctrl-C, and in an interactive session after every wait, the terminal is left to them.
    """
    leave = at_prompt()
    with waiting.one():
        collect()
        if screen is not None:
            screen.resume()
        try:
            yield
        except KeyboardInterrupt as interrupt:
            leave = True
            interrupt.add_note(f"The job goes on: {how_to_return}; future.cancel() ends it.")
            raise
        finally:
            if leave and screen is not None:
                screen.pause()


class Waiters:
    """The waiters of `concurrent.futures.wait` and `as_completed`, for all of a map's elements together.

    The standard library appends one waiter to a list in each future that is waited for. Here it takes one byte each.
    """

    def __init__(self, count: int, collect: Callable[[], None]) -> None:
        self._count, self.collect = count, collect
        self._flags: dict[Any, bytearray] = {}
        self._numbers: dict[Any, int] = {}

    def __bool__(self) -> bool:
        return bool(self._flags)

    def of(self, index: int) -> _WaitersOfOne:
        """What looks like the list of waiters of one element."""
        return _WaitersOfOne(self, index)

    def add(self, waiter: Any, index: int) -> None:
        if waiter not in self._flags:
            self._flags[waiter], self._numbers[waiter] = bytearray(self._count), 0
        self._numbers[waiter] += 1 - self._flags[waiter][index]
        self._flags[waiter][index] = 1

    def remove(self, waiter: Any, index: int) -> None:
        if not self.has(waiter, index):
            raise ValueError(f"{waiter!r} does not wait for element {index}")
        self._flags[waiter][index] = 0
        self._numbers[waiter] -= 1
        if not self._numbers[waiter]:
            del self._flags[waiter], self._numbers[waiter]

    def has(self, waiter: Any, index: int) -> bool:
        return waiter in self._flags and bool(self._flags[waiter][index])

    def all(self, index: int) -> list[Any]:
        return [waiter for waiter, flags in self._flags.items() if flags[index]]

    def ended(self, start: int, flags: bytes) -> Iterator[tuple[Any, Iterator[int]]]:
        """Each waiter, with the elements that have just ended and that it waits for."""
        for waiter, wanted in list(self._flags.items()):
            numbers = compress(range(start, start + len(flags)), flags)
            yield waiter, filter(wanted.__getitem__, numbers)


class _WaitersOfOne:
    """As much of a list as `concurrent.futures` uses."""

    def __init__(self, waiters: Waiters, index: int) -> None:
        self._waiters, self._index = waiters, index

    def append(self, waiter: Any) -> None:
        self._waiters.add(waiter, self._index)
        self._waiters.collect()

    def remove(self, waiter: Any) -> None:
        self._waiters.remove(waiter, self._index)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._waiters.all(self._index))


class MapWaiters(list[Any]):
    """The same of a map's own future: whoever waits has results collected, also when nobody did any more."""

    def __init__(self, collect: Callable[[], None]) -> None:
        super().__init__()
        self._collect = collect

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        self._collect()


def tell(waiter: Any, element: Any, state: int) -> None:
    """Tell one who waits for an element's future how it has ended."""
    if state == VALUE:
        waiter.add_result(element)
    elif state == CANCELLED:
        waiter.add_cancelled(element)
    else:
        waiter.add_exception(element)


def run_all(callbacks: Iterable[Callable[[Any], object]]) -> None:
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
