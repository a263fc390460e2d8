"""The keys that the embedded cloud accepts, and whose they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cloudknot.local.iam.signing import AccessKey


@dataclass(frozen=True)
class Principal:
    """A user, or a session of a role.

    Parameters
    ----------
    kind : {"User", "Role"}
        As IAM's operations have it.
    name : str
        Of the user or the role.
    arn : str
        As errors name it: the user's, or that of the role's session.
    session_policy : str
        What AssumeRole was given to narrow the session down; empty when it was given none.
    called_via : str
        The service that calls with this key on behalf of its owner; empty when it is the owner.
    """

    kind: str
    name: str
    arn: str
    session_policy: str = ""
    called_via: str = ""


@dataclass(frozen=True)
class Known:
    """A key that is accepted until ``expires`` (seconds since 1970). The owner of the cloud has no principal."""

    key: AccessKey
    principal: Principal | None = None
    expires: float | None = None


class Keys:
    """Every key that is accepted.

    Parameters
    ----------
    owner : AccessKey
        The key that may do everything.
    clock : callable
        Seconds since 1970.
    """

    def __init__(self, owner: AccessKey, clock: Callable[[], float] = time.time) -> None:
        self._owner, self._clock = Known(owner), clock
        self._known: dict[str, Known] = {}
        self._lock = threading.Lock()

    @property
    def owner(self) -> AccessKey:
        return self._owner.key

    def find(self, access_key: str) -> Known | None:
        """The key of that id; None when there is none."""
        if access_key == self.owner.access_key:
            return self._owner
        with self._lock:
            return self._known.get(access_key)

    def expired(self, known: Known) -> bool:
        return known.expires is not None and self._clock() >= known.expires

    def add(self, known: Known) -> None:
        """Accept a key. Those that have expired long ago are forgotten."""
        with self._lock:
            for old in [name for name, one in self._known.items() if self._expired_long_ago(one)]:
                del self._known[old]
            self._known[known.key.access_key] = known

    def remove(self, access_key: str) -> None:
        """Accept a key no more."""
        with self._lock:
            self._known.pop(access_key, None)

    def _expired_long_ago(self, known: Known) -> bool:
        return known.expires is not None and self._clock() > known.expires + 3600
