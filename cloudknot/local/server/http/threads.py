"""The threads that answer requests. One that waits for a slow client does not count among them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from waitress.task import ThreadedTaskDispatcher


class Threads(ThreadedTaskDispatcher):  # type: ignore[misc]
    """A pool with a constant number of threads that do not wait for a client.

    Parameters
    ----------
    count : int
        The number of these threads.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = self._started = count
        self._waiting = 0
        self._counting = threading.Lock()
        self.set_thread_count(count)

    @contextlib.contextmanager
    def replaced(self) -> Iterator[None]:
        """Let another thread do the work of this one, which waits for its client meanwhile."""
        # Otherwise, a few clients that send or read slowly would take all threads.
        with self._counting:
            self._waiting += 1
            if self._count + self._waiting > self._started:
                self._started = self._count + self._waiting
                self.set_thread_count(self._started)
        try:
            yield
        finally:
            with self._counting:
                self._waiting -= 1

    def shrink(self) -> None:
        """End the threads that are no longer needed."""
        with self._counting:
            self._started = self._count + self._waiting
            self.set_thread_count(self._started)
