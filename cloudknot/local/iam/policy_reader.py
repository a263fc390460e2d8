"""The policies of users and roles, read in IAM's own protocol and cached until IAM changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from cloudknot.local.iam.keys import Principal
from cloudknot.local.iam.policy import ParsedStatement, parse

Ask = Callable[..., Any]
"""``ask(operation, **arguments)`` returns IAM's answer to a call, or None if a resource in it does not exist."""


@dataclass(frozen=True)
class Policies:
    """The statements of a principal's policies, and those of its permissions boundary, or None without one."""

    statements: tuple[ParsedStatement, ...] = ()
    boundary: tuple[ParsedStatement, ...] | None = None


class PolicyReader:
    """A cached reader of policies.

    Parameters
    ----------
    ask : callable
        Calls IAM as the cloud's owner.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
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
        answer = self._ask("GetRole", RoleName=role)
        return str(answer["Role"].get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")) if answer else ""

    def _read(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        yield from self._documents(kind, name)
        for group in self._names("ListGroupsForUser", "Groups", UserName=name) if kind == "User" else ():
            yield from self._documents("Group", group["GroupName"])

    def _boundary(self, kind: str, name: str) -> tuple[ParsedStatement, ...] | None:
        # Users have no boundaries here.
        arn = self.boundary_of(name) if kind == "Role" else ""
        # A boundary whose policy does not exist allows nothing.
        return self._document(arn) if arn else None

    def _documents(self, kind: str, name: str) -> Iterator[ParsedStatement]:
        """Yield the statements in the inline and the attached policies of a user, group or role."""
        holder = {f"{kind}Name": name}
        for policy in self._names(f"List{kind}Policies", "PolicyNames", **holder):
            if answer := self._ask(f"Get{kind}Policy", PolicyName=policy, **holder):
                yield from parse(unquote(answer["PolicyDocument"]))
        for policy in self._names(f"ListAttached{kind}Policies", "AttachedPolicies", **holder):
            yield from self._document(policy["PolicyArn"])

    def _document(self, arn: str) -> tuple[ParsedStatement, ...]:
        """Return the statements of a managed policy; none if it does not exist."""
        policy = self._ask("GetPolicy", PolicyArn=arn)
        version = policy and self._ask(
            "GetPolicyVersion", PolicyArn=arn, VersionId=policy["Policy"]["DefaultVersionId"]
        )
        return parse(unquote(version["PolicyVersion"]["Document"])) if version else ()

    def _names(self, operation: str, rows: str, **arguments: str) -> list[Any]:
        """Return the rows of a list; none for a principal that does not exist any more."""
        # 1,000 is the most that IAM lists in one answer, and more than its quotas allow one principal to have.
        answer = self._ask(operation, MaxItems=1000, **arguments)
        return list(answer[rows]) if answer else []
