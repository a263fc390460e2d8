"""Waits that Ctrl-C ends on every system.

On Windows, Ctrl-C does not wake a thread that waits for a lock. Python raises KeyboardInterrupt only afterwards. So
there each wait is divided into short ones. `time.sleep` needs no such help.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from threading import Condition, Event, Thread
from typing import Any

SLICE = 0.2
"""Seconds until Ctrl-C ends a wait on Windows."""
_FOREVER = 1e6
"""Seconds that a wait elsewhere may take without a slice."""


def wait_for(condition: Condition, predicate: Callable[[], object], timeout: float | None = None) -> bool:
    """Wait until a predicate holds, as `threading.Condition.wait_for`. Hold the condition."""
    return any(condition.wait_for(predicate, seconds) for seconds in _slices(timeout))


def wait_for_event(event: Event, timeout: float) -> bool:
    """Wait until an event is set, as `threading.Event.wait`."""
    return any(event.wait(seconds) for seconds in _slices(timeout))


def join(thread: Thread) -> None:
    """Wait until a thread has ended."""
    for seconds in _slices(None):
        thread.join(seconds)
        if not thread.is_alive():
            return


def wait_for_first_error(futures: Iterable[Future[Any]]) -> bool:
    """Wait until one of the futures has failed, or all have ended. Return whether all have ended."""
    waiting = list(futures)
    for seconds in _slices(None):
        done, not_done = wait(waiting, seconds, FIRST_EXCEPTION)
        if not not_done or any(not future.cancelled() and future.exception() for future in done):
            return not not_done
    raise AssertionError("the slices of a wait without a limit never end")


def _slices(timeout: float | None) -> Iterator[float]:
    """Yield the seconds of each part of a wait, until the timeout has passed."""
    longest = SLICE if sys.platform == "win32" else _FOREVER
    end = time.monotonic() + (_FOREVER**2 if timeout is None else timeout)
    yield min(longest, max(0.0, end - time.monotonic()))
    while (remaining := end - time.monotonic()) > 0:
        yield min(longest, remaining)
