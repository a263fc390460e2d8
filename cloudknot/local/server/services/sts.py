"""STS: the identity of a caller, and sessions of roles."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.keys import AcceptedKey, Keys, Principal
from cloudknot.local.iam.policy import glob
from cloudknot.local.iam.requests.operations import Request, carry_out
from cloudknot.local.server.services.iam.records import new_key
from cloudknot.local.wsgi import Answer, ServiceError

USUAL = 3600
"""Seconds that a session lasts by default (STS API reference, "AssumeRole")."""


class Sts:
    """The service STS.

    Parameters
    ----------
    keys : Keys
        Receives the keys of sessions.
    takes_keys : bool
        Whether the cloud accepts the keys of sessions.
    role : callable
        Returns IAM's answer to GetRole; raises `ServiceError` for a role that does not exist.
    """

    waits = False

    def __init__(self, keys: Keys, takes_keys: bool, role: Callable[[str], Mapping[str, Any]]) -> None:
        self._keys, self._takes_keys, self._role = keys, takes_keys, role

    def answer(self, operation: str, request: Request, caller: Principal | None) -> Answer:
        """Answer a call."""
        operations = {
            "GetCallerIdentity": lambda _: _identity(caller),
            "AssumeRole": lambda request: self._assume(request, caller),
        }
        return carry_out("sts", operations, operation, request)

    def session(self, role_arn: str, name: str, seconds: float, policy: str = "") -> AcceptedKey:
        """Return the key of a new session of a role, without adding it to the accepted keys."""
        role = role_arn.rpartition("/")[2]
        key = new_key("ASIA", secrets.token_urlsafe(96))
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}"
        return AcceptedKey(key, Principal("Role", role, arn, policy), time.time() + seconds)

    def _assume(self, request: Request, caller: Principal | None) -> Answer:
        arn, name = request["RoleArn"], request["RoleSessionName"]
        role = self._trusting(arn, caller)
        seconds = request.get("DurationSeconds", USUAL)
        accepted = self.session(arn, name, seconds, request.get("Policy", ""))
        if self._takes_keys:
            self._keys.add(accepted)
        assert accepted.principal is not None
        return {
            "Credentials": {
                "AccessKeyId": accepted.key.access_key,
                "SecretAccessKey": accepted.key.secret_key,
                "SessionToken": accepted.key.token,
                "Expiration": datetime.fromtimestamp(accepted.expires or 0, UTC),
            },
            "AssumedRoleUser": {"AssumedRoleId": f"{role['RoleId']}:{name}", "Arn": accepted.principal.arn},
        }

    def _trusting(self, arn: str, caller: Principal | None) -> Mapping[str, Any]:
        """Return the role; raise `ServiceError` unless the caller may assume it."""
        who = "The owner" if caller is None else f"User: {caller.arn}"
        refusal = ServiceError(
            "AccessDenied", f"{who} is not authorized to perform: sts:AssumeRole on resource: {arn}", 403
        )
        try:
            role = self._role(arn.rpartition("/")[2])
        except ServiceError as error:
            raise refusal from error
        # The owner may assume every role that exists.
        if role["Arn"] != arn or not (caller is None or _trusts(role["AssumeRolePolicyDocument"], caller)):
            raise refusal
        return role


def _identity(caller: Principal | None) -> Answer:
    if caller is None:
        return {"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root"}
    return {"UserId": caller.arn.rpartition(":")[2], "Account": ACCOUNT, "Arn": caller.arn}


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
