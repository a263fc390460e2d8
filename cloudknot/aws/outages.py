"""Warn of an outage once for each login, however many maps wait through it."""

from __future__ import annotations

import threading

from cloudknot.aws.sdk import forks
from cloudknot.errors import CloudknotError, CredentialsError
from cloudknot.options import streams

_outages: dict[tuple[str, ...], Outages] = {}
_lock = forks.renewed(threading.Lock())


def outages_of(*login: str) -> Outages:
    """Return the `Outages` that all `Cloud` objects of a login share."""
    with _lock:
        # Kept for each login, not for each wait, because ten maps would otherwise log ten warnings.
        return _outages.setdefault(login, Outages())


class Outages:
    """The outages of one login. Times are seconds on one clock that all waits share."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._warned_at = self._answered_at = float("-inf")
        self._lock = forks.renewed(threading.Lock())

    def warn(self, error: CloudknotError, begun: float, now: float) -> None:
        """Log a warning, unless one of this kind was logged since the last answer.

        Parameters
        ----------
        error : CloudknotError
            The error that ended the collector's poll.
        begun, now : float
            When that poll began, and when it ended.
        """
        # Expired credentials get a warning of their own, even without a network: only a person can renew them.
        kind = "credentials" if isinstance(error, CredentialsError) else "silence"
        with self._lock:
            # Another wait got an answer after this poll began, so the outage is over already.
            if kind in self._warned or begun < self._answered_at:
                return
            self._warned.add(kind)
            self._warned_at = now
        streams.logger.warning("Cannot look for results at the moment. cloudknot keeps trying. Cause: %s", error)

    def end(self, begun: float, now: float) -> None:
        """Note that a poll from ``begun`` to ``now`` got its answers, so the next outage is a new one."""
        with self._lock:
            # A poll that began before the warning may have had its answers before the outage.
            if begun < self._warned_at:
                return
            self._warned.clear()
            self._answered_at = now
