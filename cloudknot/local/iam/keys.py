"""The keys that the embedded cloud accepts, whose they are, and how it learns of them.

A layer in front of IAM and STS takes note of the keys that they make, and of every change to policies. Only the public
protocol is used: a secret is in the answer to CreateAccessKey or AssumeRole, and never again.
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
from cloudknot.local.iam.policy import glob
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.state import ACCOUNT


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


_READS = ("Get", "List", "Simulate", "Generate")


class Identities:
    """A WSGI application: IAM, STS and everything else by another application.

    Parameters
    ----------
    others : WSGI application
    keys : Keys
        Told of keys that are made and deleted.
    takes_keys : bool
        Whether keys that are made are accepted from then on.
    """

    def __init__(self, others: WSGIApplication, keys: Keys, takes_keys: bool) -> None:
        self._others, self._keys, self._takes_keys = others, keys, takes_keys
        self.on_change: Callable[[], None] = lambda: None
        """Called when policies may have changed."""
        self.trust: Callable[[str], tuple[str, str] | None] = lambda role: None
        """Gives ARN and trust policy of a role."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service = wsgi.service_of(environ)
        if service not in ("iam", "sts", "cloudformation"):
            return self._others(environ, start_response)
        form = wsgi.form_of(wsgi.body_of(environ))
        action = form.get("Action", "")
        if service == "sts" and action == "AssumeRole" and "cloudknot.principal" in environ:
            words = self._distrust(form.get("RoleArn", ""), environ["cloudknot.principal"])
            if words:
                return wsgi.refuse(environ, start_response, service, 403, "AccessDenied", words)
        try:
            learn = _LEARN.get(action) if self._takes_keys else None
            if learn is None:
                return self._others(environ, start_response)
            return self._learned(learn, form, environ, start_response)
        finally:
            if not action.startswith(_READS) and service != "sts":
                self.on_change()

    def _learned(
        self,
        learn: Callable[[Keys, Mapping[str, str], Element], None],
        form: Mapping[str, str],
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        recorded = wsgi.Recorded()
        body = wsgi.whole(self._others(environ, recorded))
        if recorded.status.startswith("200"):
            learn(self._keys, form, ElementTree.fromstring(body))
        recorded.pass_on(start_response)
        return [body]

    def _distrust(self, role: str, principal: Principal | None) -> str:
        """Why a role may not be assumed; empty when it may. The owner may assume every role that exists."""
        who = "The owner" if principal is None else f"User: {principal.arn}"
        found = self.trust(role.rpartition("/")[2])
        if found is None or found[0] != role or not (principal is None or _trusts(found[1], principal)):
            return f"{who} is not authorized to perform: sts:AssumeRole on resource: {role}"
        return ""


def session(form: Mapping[str, str], answer: Element) -> Known:
    """The key in an answer to AssumeRole."""
    expires = datetime.fromisoformat(_text(answer, "Expiration").replace("Z", "+00:00")).timestamp()
    key = AccessKey(_text(answer, "AccessKeyId"), _text(answer, "SecretAccessKey"), _text(answer, "SessionToken"))
    role = form["RoleArn"].rpartition("/")[2]
    arn = answer.findtext(".//{*}AssumedRoleUser/{*}Arn") or ""
    return Known(key, Principal("Role", role, arn, form.get("Policy", "")), expires)


def _created(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    name = _text(answer, "UserName")
    key = AccessKey(_text(answer, "AccessKeyId"), _text(answer, "SecretAccessKey"))
    keys.add(Known(key, Principal("User", name, f"arn:aws:iam::{ACCOUNT}:user/{name}")))


def _deleted(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    keys.remove(form.get("AccessKeyId", ""))


def _assumed(keys: Keys, form: Mapping[str, str], answer: Element) -> None:
    keys.add(session(form, answer))


_LEARN = {"CreateAccessKey": _created, "DeleteAccessKey": _deleted, "AssumeRole": _assumed}


def _trusts(document: str, principal: Principal) -> bool:
    """Whether a trust policy lets a principal assume its role; a condition in it is not looked at."""
    account = principal.arn.split(":")[4]
    wanted = {principal.arn, account, f"arn:aws:iam::{account}:root", "*"}
    for statement in json.loads(document).get("Statement", []):
        named = statement.get("Principal", {})
        named = named.get("AWS", []) if isinstance(named, dict) else named
        if statement.get("Effect") == "Allow" and wanted & set([named] if isinstance(named, str) else named):
            actions = statement.get("Action", [])
            actions = [actions] if isinstance(actions, str) else actions
            if any(glob(action).fullmatch("sts:AssumeRole") for action in actions):
                return True
    return False


def _text(answer: Element, name: str) -> str:
    return answer.findtext(f".//{{*}}{name}") or ""
