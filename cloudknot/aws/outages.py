"""Which outages the user has been told of: one warning for each, however many maps wait through it."""

from __future__ import annotations

import logging
import threading

from cloudknot.errors import CloudknotError, CredentialsError

logger = logging.getLogger("cloudknot")

_outages: dict[tuple[str, ...], Outages] = {}
_lock = threading.Lock()


def outages_of(*login: str) -> Outages:
    """Those of a login, whatever number of `Cloud` objects use it."""
    with _lock:
        return _outages.setdefault(login, Outages())


class Outages:
    """What the waits of one login have in common. Times are seconds of a clock that all of them use."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._told_at = self._answered_at = float("-inf")
        self._lock = threading.Lock()

    def tell(self, error: CloudknotError, begun: float, now: float) -> None:
        """Warn of an error that ended a look which began at a time; once, until there is an answer again.

        Credentials that expire while the network is away are told as well: somebody has to renew them.
        """
        kind = "credentials" if isinstance(error, CredentialsError) else "silence"
        with self._lock:
            # Somebody else has had an answer since: this one was late.
            if kind in self._told or begun < self._answered_at:
                return
            self._told.add(kind)
            self._told_at = now
        logger.warning("Cannot look for results at the moment, will go on trying: %s", error)

    def over(self, begun: float, now: float) -> None:
        """A look that began at a time had its answers. One from before the outage says nothing of it."""
        with self._lock:
            if begun < self._told_at:
                return
            self._told.clear()
            self._answered_at = now
