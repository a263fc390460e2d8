"""The keys that the embedded cloud accepts, and the principal of each.

A layer in front of IAM and STS records the keys that they create and reports every change to policies. It uses the
public protocol only.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from cloudknot.local import wsgi
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.policy import glob
from cloudknot.local.iam.requests.received import received
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
    """

    def __init__(self, owner: AccessKey, clock: Callable[[], float] = time.time) -> None:
        self._owner, self._clock = AcceptedKey(owner), clock
        self._accepted: dict[str, AcceptedKey] = {}
        self._lock = threading.Lock()

    @property
    def owner(self) -> AccessKey:
        """The key of the cloud's owner."""
        return self._owner.key

    def find(self, access_key: str) -> AcceptedKey | None:
        """Return the key with this id, or None if the cloud does not accept it."""
        if access_key == self.owner.access_key:
            return self._owner
        with self._lock:
            return self._accepted.get(access_key)

    def expired(self, accepted: AcceptedKey) -> bool:
        """Return whether a key has expired."""
        return accepted.expires is not None and self._clock() >= accepted.expires

    def add(self, accepted: AcceptedKey) -> None:
        """Accept a key from now on."""
        with self._lock:
            for key_id in [key_id for key_id, old in self._accepted.items() if self._expired_long_ago(old)]:
                del self._accepted[key_id]
            self._accepted[accepted.key.access_key] = accepted

    def remove(self, access_key: str) -> None:
        """Stop accepting the key with this id."""
        with self._lock:
            self._accepted.pop(access_key, None)

    def _expired_long_ago(self, accepted: AcceptedKey) -> bool:
        # An expired key is kept for an hour, so that its requests get AWS's error for expired credentials.
        return accepted.expires is not None and self._clock() > accepted.expires + 3600


_READS = ("Get", "List", "Simulate", "Generate")


class IdentityLayer:
    """A WSGI application in front of another, which records new and deleted keys and changes to policies.

    Parameters
    ----------
    services : WSGI application
        Answers the requests.
    keys : Keys
        Receives the keys.
    takes_keys : bool
        Whether the cloud accepts keys that IAM and STS create.
    """

    def __init__(self, services: WSGIApplication, keys: Keys, takes_keys: bool) -> None:
        self._services, self._keys, self._takes_keys = services, keys, takes_keys
        # Set after construction: both belong to the reader of policies, which makes its calls through this layer.
        self.on_change: Callable[[], None] = lambda: None
        """Called when policies may have changed."""
        self.trust: Callable[[str], tuple[str, str] | None] = lambda role: None
        """Returns the ARN and the trust policy of a role, by its name."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).call
        if call is None or call.service not in ("iam", "sts", "cloudformation"):
            return self._services(environ, start_response)
        service, action, form = call.service, call.operation, call.arguments
        # The gate sets the principal. The server's own calls bypass the gate, and may assume the role of any job.
        if service == "sts" and action == "AssumeRole" and "cloudknot.principal" in environ:
            message = self._distrust(form.get("RoleArn", ""), environ["cloudknot.principal"])
            if message:
                return wsgi.refuse(environ, start_response, service, 403, "AccessDenied", message)
        try:
            record = _RECORD.get(action) if self._takes_keys else None
            if record is None:
                return self._services(environ, start_response)
            return self._answer_and_record(record, form, environ, start_response)
        finally:
            # Also after an error: reading the policies again does no harm.
            if not action.startswith(_READS) and service != "sts":
                self.on_change()

    def _answer_and_record(
        self,
        record: Callable[[Keys, Mapping[str, str], Element], None],
        form: Mapping[str, str],
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        recorded = wsgi.RecordedAnswer()
        # From the answer: the secret of a new key is in the answer to CreateAccessKey or AssumeRole, and never again.
        body = wsgi.full_body(self._services(environ, recorded))
        if recorded.status.startswith("200"):
            record(self._keys, form, ElementTree.fromstring(body))
        recorded.pass_on(start_response)
        return [body]

    def _distrust(self, role: str, principal: Principal | None) -> str:
        """Return the reason why a principal may not assume a role, or an empty string if it may."""
        caller = "The owner" if principal is None else f"User: {principal.arn}"
        arn, document = self.trust(role.rpartition("/")[2]) or ("", "")
        # The owner may assume every role that exists.
        if not arn or arn != role or not (principal is None or _trusts(document, principal)):
            return f"{caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
        return ""


def session(form: Mapping[str, str], answer: Element) -> AcceptedKey:
    """Return the key in an answer to AssumeRole."""
    expires = datetime.fromisoformat(_text(answer, "Expiration").replace("Z", "+00:00")).timestamp()
    key = AccessKey(_text(answer, "AccessKeyId"), _text(answer, "SecretAccessKey"), _text(answer, "SessionToken"))
    role = form["RoleArn"].rpartition("/")[2]
    arn = answer.findtext(".//{*}AssumedRoleUser/{*}Arn") or ""
    return AcceptedKey(key, Principal("Role", role, arn, form.get("Policy", "")), expires)


def _record_created(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    name = _text(answer, "UserName")
    key = AccessKey(_text(answer, "AccessKeyId"), _text(answer, "SecretAccessKey"))
    keys.add(AcceptedKey(key, Principal("User", name, f"arn:aws:iam::{ACCOUNT}:user/{name}")))


def _record_deleted(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    keys.remove(form.get("AccessKeyId", ""))


def _record_assumed(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    keys.add(session(form, answer))


_RECORD = {"CreateAccessKey": _record_created, "DeleteAccessKey": _record_deleted, "AssumeRole": _record_assumed}


def _trusts(document: str, principal: Principal) -> bool:
    """Return whether a trust policy lets a principal assume its role. Conditions in the policy are ignored."""
    account = principal.arn.split(":")[4]
    identifiers = {principal.arn, account, f"arn:aws:iam::{account}:root", "*"}
    for statement in json.loads(document).get("Statement", []):
        principals = statement.get("Principal", {})
        principals = principals.get("AWS", []) if isinstance(principals, dict) else principals
        principals = [principals] if isinstance(principals, str) else principals
        if statement.get("Effect") == "Allow" and identifiers & set(principals):
            actions = statement.get("Action", [])
            actions = [actions] if isinstance(actions, str) else actions
            if any(glob(action).fullmatch("sts:AssumeRole") for action in actions):
                return True
    return False


def _text(answer: Element, name: str) -> str:
    return answer.findtext(f".//{{*}}{name}") or ""
