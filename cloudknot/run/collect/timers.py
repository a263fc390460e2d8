"""The timers of a wait for results: the pauses between polls, and how long the cloud has been unreachable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotError, CredentialsError

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

# Seconds between polls. The pause grows with the time since the first poll, by `PAUSE_SHARE`: a long job needs no
# quick polls. So a map ends 1.5 % late on average, and earlier if its rate so far shows when the last element ends.
SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 10.0
PAUSE_SHARE = 0.03
LEAST_RATIO = 5
"""A pause as a multiple of the time that the poll took, so that polls below 2 s take a sixth of the time at most."""
LAST_PAUSE = 0.015
"""The shortest pause when the last element should have ended."""
# Each call is repeated for two minutes. If more time has passed, the machine was asleep.
LONGEST_POLL = 120.0
"""Most seconds of the time between two errors that count toward an outage."""


class PollTimer:
    """The pauses between the polls of one wait for results.

    Parameters
    ----------
    count : int
        Number of elements.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, count: int, clock: Callable[[], float]) -> None:
        self._count, self._clock = count, clock
        self._started = clock()
        self._ended = 0
        self._expected_end: float | None = None

    def pause(self, begun: float, ended: int) -> float:
        """Return the seconds until the next poll, after one that began at ``begun`` and found ``ended`` elements."""
        now = self._clock()
        took, passed = now - begun, now - self._started
        usual = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, LEAST_RATIO * took, passed * PAUSE_SHARE))
        # A quarter of the elements, because the first ones wait for the start of machines and imports.
        if ended > self._ended and 4 * ended >= self._count:
            self._expected_end = now + passed * (self._count - ended) / ended
        self._ended = ended
        if self._expected_end is None:
            return usual
        # Once the expected end has passed, the pauses double, so a straggler costs few more polls.
        return min(usual, max(LAST_PAUSE, took, abs(self._expected_end - now)))


class OutageTimer:
    """The timer of one wait for results.

    Parameters
    ----------
    cloud : Cloud
        Supplies ``patience``, ``renewal`` and ``outages``.
    clock : callable
        Returns the time in seconds. Time during which the machine sleeps does not count.
    """

    def __init__(self, cloud: Cloud, clock: Callable[[], float]) -> None:
        self._cloud, self._clock = cloud, clock
        self._last_error: float | None = None
        self._seconds = 0.0

    def answered(self, begun: float) -> None:
        """Reset the timer after a poll that began at ``begun`` and got its answers."""
        self._last_error = None
        self._cloud.outages.end(begun, self._clock())

    def should_give_up(self, error: CloudknotError, begun: float) -> bool:
        """Return whether to give up after ``error`` ended a poll that began at ``begun``. If not, warn of the outage.

        The wait lasts for the cloud's ``patience``, or for its ``renewal`` if the credentials have expired.
        """
        now = self._clock()
        self._seconds = 0.0 if self._last_error is None else self._seconds + min(now - self._last_error, LONGEST_POLL)
        self._last_error = now
        # Read on every error: an embedded cloud has no patience any more once its process has ended.
        patience = self._cloud.patience
        # Only a person can renew credentials, and that person may be asleep.
        if patience and isinstance(error, CredentialsError):
            patience = max(patience, self._cloud.renewal)
        if self._seconds >= patience:
            return True
        self._cloud.outages.warn(error, begun, now)
        return False
