"""The keys that the embedded cloud accepts, and the principal of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.iam.signing import AccessKey


@dataclass(frozen=True)
class Principal:
    """A user, or a session of a role.

    Parameters
    ----------
    kind : {"User", "Role"}
        The word for it in the names of IAM's operations.
    name : str
        The name of the user or the role.
    arn : str
        The ARN in error messages: the user's, or that of the role's session.
    session_policy : str
        The policy in the call of AssumeRole, which restricts the session further. Empty without one.
    called_via : str
        The service that makes requests on behalf of the principal. Empty for the principal's own requests.
    """

    kind: str
    name: str
    arn: str
    session_policy: str = ""
    called_via: str = ""


@dataclass(frozen=True)
class AcceptedKey:
    """A key that the cloud accepts until ``expires`` (seconds since 1970). The owner's key has no principal."""

    key: AccessKey
    principal: Principal | None = None
    expires: float | None = None


class Keys:
    """All accepted keys.

    Parameters
    ----------
    owner : AccessKey
        The key that may do everything.
    clock : callable
        Returns the seconds since 1970.
    kept : Documents, optional
        Where keys survive the end of the server. Without it, they end with this object.
    takes_users : bool
        Whether the keys of IAM's users are accepted.
    """

    def __init__(
        self,
        owner: AccessKey,
        clock: Callable[[], float] = time.time,
        kept: Documents | None = None,
        *,
        takes_users: bool = True,
    ) -> None:
        self._owner, self._clock, self._takes_users = AcceptedKey(owner), clock, takes_users
        self._kept = kept
        self._lock = threading.Lock()
        # All of them in memory, because every request looks for one.
        self._accepted = {name: _accepted(document) for name, document in (kept or {}).items()}

    @property
    def owner(self) -> AccessKey:
        """The key of the cloud's owner."""
        return self._owner.key

    def find(self, access_key: str) -> AcceptedKey | None:
        """Return the key with this id, or None if the cloud does not accept it."""
        if access_key == self.owner.access_key:
            return self._owner
        with self._lock:
            found = self._accepted.get(access_key)
        is_user = found is not None and found.principal is not None and found.principal.kind == "User"
        return None if is_user and not self._takes_users else found

    def expired(self, accepted: AcceptedKey) -> bool:
        """Return whether a key has expired."""
        return accepted.expires is not None and self._clock() >= accepted.expires

    def add(self, accepted: AcceptedKey, *, is_kept: bool = True) -> None:
        """Accept a key from now on; unless ``is_kept``, only until the server ends."""
        with self._lock:
            old = [key_id for key_id, key in self._accepted.items() if self._expired_long_ago(key)]
            for key_id in old:
                del self._accepted[key_id]
            self._accepted[accepted.key.access_key] = accepted
        # Without the lock: the database has a lock of its own, whose holder may be waiting for this one.
        if self._kept is not None:
            for key_id in old:
                self._kept.pop(key_id, None)
            if is_kept:
                self._kept[accepted.key.access_key] = asdict(accepted)

    def remove(self, access_key: str) -> None:
        """Stop accepting the key with this id."""
        with self._lock:
            self._accepted.pop(access_key, None)
        if self._kept is not None:
            self._kept.pop(access_key, None)

    def _expired_long_ago(self, accepted: AcceptedKey) -> bool:
        # An expired key is kept for an hour, so that its requests get AWS's error for expired credentials.
        return accepted.expires is not None and self._clock() > accepted.expires + 3600


def _accepted(document: Document) -> AcceptedKey:
    principal = Principal(**document["principal"]) if document["principal"] else None
    return AcceptedKey(AccessKey(**document["key"]), principal, document["expires"])
