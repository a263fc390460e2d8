"""The policies of users and roles, read by IAM's own protocol and kept until something in IAM changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from cloudknot.errors import CloudError
from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.policy import ParsedStatement, parse

Query = Callable[..., Element]
"""``query(service, action, **arguments)``: one call of a service with AWS's query protocol."""


class PolicyReader:
    """Gives the statements that hold for a principal.

    Parameters
    ----------
    query : callable
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[ParsedStatement, ...]] = {}
        self._changes = 0

    def forget(self) -> None:
        """Something in IAM has changed."""
        with self._lock:
            self._changes += 1
            self._kept.clear()

    def statements(self, principal: Principal) -> tuple[ParsedStatement, ...]:
        """The statements of all policies of a user, its groups, or a role. One that does not exist has none."""
        who = (principal.kind, principal.name)
        with self._lock:
            kept, changes = self._kept.get(who), self._changes
        if kept is None:
            kept = tuple(self._read(*who))
            with self._lock:
                if changes == self._changes:
                    self._kept[who] = kept
        return kept

    def trust(self, role: str) -> tuple[str, str] | None:
        """ARN and trust policy of a role; None when there is no such role."""
        try:
            found = self._query("iam", "GetRole", RoleName=role)
        except CloudError:
            return None
        return _text(found, "Arn"), unquote(_text(found, "AssumeRolePolicyDocument"))

    def _read(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        try:
            yield from self._documents(kind, name)
            if kind == "User":
                for group in self._names("ListGroupsForUser", "GroupName", UserName=name):
                    yield from self._documents("Group", group)
        except CloudError:
            # It was deleted: what it has left of policies does not hold any more.
            return

    def _documents(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        who = {f"{kind}Name": name}
        for policy in self._names(f"List{kind}Policies", "PolicyNames/{*}member", **who):
            found = self._query("iam", f"Get{kind}Policy", PolicyName=policy, **who)
            yield from parse(unquote(_text(found, "PolicyDocument")))
        for arn in self._names(f"ListAttached{kind}Policies", "PolicyArn", **who):
            version = _text(self._query("iam", "GetPolicy", PolicyArn=arn), "DefaultVersionId")
            found = self._query("iam", "GetPolicyVersion", PolicyArn=arn, VersionId=version)
            yield from parse(unquote(_text(found, "Document")))

    def _names(self, action: str, path: str, **arguments: str) -> list[str]:
        found = self._query("iam", action, MaxItems="1000", **arguments)
        return [element.text or "" for element in found.iterfind(f".//{{*}}{path}")]


def _text(answer: Element, name: str) -> str:
    return answer.findtext(f".//{{*}}{name}") or ""
