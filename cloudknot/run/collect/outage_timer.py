"""How long a wait for results has borne a cloud that does not answer, and whether it is to bear more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotError, CredentialsError

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

LONGEST_LOOK = 120.0
"""Seconds that count as silence between two looks: when more have passed, the machine was asleep."""


class OutageTimer:
    """The silence that one wait meets.

    Parameters
    ----------
    cloud : Cloud
        Its ``patience``, ``renewal`` and ``outages`` are read each time: they may change when the cloud ends.
    clock : callable
        Seconds now. What passes while the machine sleeps does not count.
    """

    def __init__(self, cloud: Cloud, clock: Callable[[], float]) -> None:
        self._cloud, self._clock = cloud, clock
        self._last: float | None = None
        self._seconds = 0.0

    def ended(self, begun: float) -> None:
        """The cloud has answered a look that began at a time."""
        self._last = None
        self._cloud.outages.end(begun, self._clock())

    def is_too_long(self, error: CloudknotError, begun: float) -> bool:
        """Whether to give up after an error, which ended a look that began at a time; else the user is told of it."""
        now = self._clock()
        self._seconds = 0.0 if self._last is None else self._seconds + min(now - self._last, LONGEST_LOOK)
        self._last = now
        patience = self._cloud.patience
        if patience and isinstance(error, CredentialsError):
            patience = max(patience, self._cloud.renewal)
        if self._seconds >= patience:
            return True
        self._cloud.outages.warn(error, begun, now)
        return False
