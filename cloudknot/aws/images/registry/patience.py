"""Patience: the waits between attempts, and when to give up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from cloudknot.aws.sdk import interrupts
from cloudknot.errors import CloudknotError

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
"""Seconds between attempts. They double from the first to the longest."""


class StoppedTransferError(Exception):
    """Another transfer of the same call has failed, or the person has interrupted it."""


class Patience:
    """The waits of one transfer. They end when it has made no progress for ``limit()`` seconds.

    Parameters
    ----------
    limit : callable
        Returns the seconds. 0 means one attempt.
    *stops : Event
        Each ends the transfer with `StoppedTransferError`; the first one ends a wait, too.
    """

    def __init__(self, limit: Callable[[], float], *stops: threading.Event) -> None:
        self._limit, self._stops = limit, stops
        self.progressed()

    def progressed(self) -> None:
        """Note progress: the limit counts from now."""
        self._since, self._waits = time.monotonic(), 0

    def excuse(self, seconds: float) -> None:
        """Leave out some seconds, in which bytes moved, from the time without progress."""
        self._since += seconds

    def check(self) -> None:
        """Raise `StoppedTransferError` if the transfer was stopped."""
        if any(stop.is_set() for stop in self._stops):
            raise StoppedTransferError

    def wait(self, error: CloudknotError, after: float = 0.0) -> None:
        """Wait before the next attempt; raise ``error`` if that would exceed the limit.

        Parameters
        ----------
        error : CloudknotError
            Why the last attempt failed.
        after : float
            The seconds that the registry asked to wait.
        """
        self.check()
        # Random, so that parallel transfers do not all come back at the same moment.
        delay = max(after, random.uniform(0.5, 1) * min(FIRST_WAIT * 2**self._waits, LONGEST_WAIT))
        if time.monotonic() + delay > self._since + self._limit():
            raise error
        self._waits += 1
        interrupts.wait_for_event(self._stops[0], delay)
        self.check()
