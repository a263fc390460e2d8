"""OutageTimer: measures how long the cloud has been unreachable, and decides when a wait for results gives up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotError, CredentialsError

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

# Each call is repeated for two minutes. If more time has passed, the machine was asleep.
LONGEST_POLL = 120.0
"""Most seconds of the time between two errors that count toward an outage."""


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
