"""How long a wait for results has borne a cloud that does not answer, and whether it is to bear more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cloudknot.aws.outages import Outages
from cloudknot.errors import CloudknotError, CredentialsError

LONGEST_LOOK = 120.0
"""Seconds that count as silence between two looks: when more have passed, the machine was asleep."""


class Patience(Protocol):
    """How long the cloud may be silent; `cloudknot.run.collect.run_view.RunSource` says it of its own."""

    @property
    def patience(self) -> float:
        """Seconds that the cloud may stay silent before its jobs are given up."""

    @property
    def renewal(self) -> float:
        """Seconds for which expired credentials are borne."""

    @property
    def outages(self) -> Outages:
        """What the user has been told of."""


class Silence:
    """The silence that one wait meets.

    Parameters
    ----------
    bounds : Patience
        Asked each time: they may change when the cloud ends.
    clock : callable
        Seconds now. What passes while the machine sleeps does not count.
    """

    def __init__(self, bounds: Patience, clock: Callable[[], float]) -> None:
        self._bounds, self._clock = bounds, clock
        self._last: float | None = None
        self._seconds = 0.0

    def ended(self, begun: float) -> None:
        """The cloud has answered a look that began at a time."""
        self._last = None
        self._bounds.outages.over(begun, self._clock())

    def is_too_long(self, error: CloudknotError, begun: float) -> bool:
        """Whether to give up after an error, which ended a look that began at a time; else the user is told of it."""
        now = self._clock()
        self._seconds = 0.0 if self._last is None else self._seconds + min(now - self._last, LONGEST_LOOK)
        self._last = now
        patience = self._bounds.patience
        if patience and isinstance(error, CredentialsError):
            patience = max(patience, self._bounds.renewal)
        if self._seconds >= patience:
            return True
        self._bounds.outages.tell(error, begun, now)
        return False
