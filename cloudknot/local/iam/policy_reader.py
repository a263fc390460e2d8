"""The policies of users and roles, read in IAM's own protocol and cached until IAM changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from cloudknot.errors import CloudError
from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.policy import ParsedStatement, parse

Query = Callable[..., Element]
"""``query(service, action, **arguments)`` makes one call to a service in AWS's query protocol."""


@dataclass(frozen=True)
class Policies:
    """The statements of a principal's policies, and those of its permissions boundary, or None without one."""

    statements: tuple[ParsedStatement, ...] = ()
    boundary: tuple[ParsedStatement, ...] | None = None


class PolicyReader:
    """A cached reader of policies.

    Parameters
    ----------
    query : callable
        Calls IAM as the cloud's owner.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._lock = threading.Lock()
        self._cached: dict[tuple[str, str], Policies] = {}
        self._changes = 0

    def forget(self) -> None:
        """Read all policies again from now on, because IAM may have changed."""
        with self._lock:
            self._changes += 1
            self._cached.clear()

    def policies(self, principal: Principal) -> Policies:
        """Return the policies of a user with its groups, or of a role. A principal that does not exist has none."""
        holder = (principal.kind, principal.name)
        with self._lock:
            policies, changes = self._cached.get(holder), self._changes
        if policies is None:
            policies = Policies(tuple(self._read(*holder)), self._boundary(*holder))
            with self._lock:
                # IAM may have changed during the reading. Then the next request reads once more.
                if changes == self._changes:
                    self._cached[holder] = policies
        return policies

    def boundary_of(self, role: str) -> str:
        """Return the ARN of a role's permissions boundary; empty without one."""
        try:
            return _text(self._query("iam", "GetRole", RoleName=role), "PermissionsBoundaryArn")
        except CloudError:
            return ""

    def trust(self, role: str) -> tuple[str, str] | None:
        """Return the ARN and the trust policy of a role, or None if the role does not exist."""
        try:
            answer = self._query("iam", "GetRole", RoleName=role)
        except CloudError:
            return None
        return _text(answer, "Arn"), unquote(_text(answer, "AssumeRolePolicyDocument"))

    def _read(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        try:
            yield from self._documents(kind, name)
            if kind == "User":
                for group in self._names("ListGroupsForUser", "GroupName", UserName=name):
                    yield from self._documents("Group", group)
        except CloudError:
            # The principal was deleted during the reads, and its remaining policies with it.
            return

    def _boundary(self, kind: str, name: str) -> tuple[ParsedStatement, ...] | None:
        # moto keeps boundaries of roles only.
        arn = self.boundary_of(name) if kind == "Role" else ""
        if not arn:
            return None
        try:
            return self._document(arn)
        except CloudError:
            # A boundary whose policy does not exist allows nothing.
            return ()

    def _documents(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        """Yield the statements in the inline and the attached policies of a user, group or role."""
        holder = {f"{kind}Name": name}
        for policy in self._names(f"List{kind}Policies", "PolicyNames/{*}member", **holder):
            answer = self._query("iam", f"Get{kind}Policy", PolicyName=policy, **holder)
            yield from parse(unquote(_text(answer, "PolicyDocument")))
        for arn in self._names(f"ListAttached{kind}Policies", "PolicyArn", **holder):
            yield from self._document(arn)

    def _document(self, arn: str) -> tuple[ParsedStatement, ...]:
        """Return the statements of a managed policy."""
        version = _text(self._query("iam", "GetPolicy", PolicyArn=arn), "DefaultVersionId")
        answer = self._query("iam", "GetPolicyVersion", PolicyArn=arn, VersionId=version)
        return parse(unquote(_text(answer, "Document")))

    def _names(self, action: str, path: str, **arguments: str) -> list[str]:
        # 1,000 is the most that IAM lists in one answer, and more than its quotas allow one principal to have.
        answer = self._query("iam", action, MaxItems="1000", **arguments)
        return [element.text or "" for element in answer.iterfind(f".//{{*}}{path}")]


def _text(answer: Element, name: str) -> str:
    return answer.findtext(f".//{{*}}{name}") or ""
