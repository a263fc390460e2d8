"""The records of IAM in the cloud's database: users, groups, roles, instance profiles and policies."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.requests.operations import Request, page
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.server.services.iam.managed_policies import aws_policy
from cloudknot.local.wsgi import Answer, ServiceError

_WORDS = {"InstanceProfile": "Instance Profile"}
_IDS = {"User": "AIDA", "Group": "AGPA", "Role": "AROA", "InstanceProfile": "AIPA", "Policy": "ANPA"}
PAGE = 100


class IamRecords:
    """The users, groups, roles and instance profiles by name, and the account's own policies by ARN.

    A record has the members of IAM's description. Members in lower case hold its relations.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self.of = {kind: Documents(database, f"iam:{kind}") for kind in _IDS}

    def add(self, kind: str, request: Request, **members: object) -> Document:
        """Store and return a new record with the name and the path in a request."""
        name, path = request[f"{kind}Name"], request.get("Path") or "/"
        if any(name.lower() == other.lower() for other in self.of[kind]):
            raise ServiceError(
                "EntityAlreadyExists", f"{_WORDS.get(kind, kind)} with name {name} already exists.", 409
            )
        record = {
            f"{kind}Name": name,
            "Path": path,
            f"{kind}Id": new_id(_IDS[kind]),
            "Arn": f"arn:aws:iam::{ACCOUNT}:{_WORDS.get(kind, kind).lower().replace(' ', '-')}{path}{name}",
            "CreateDate": now(),
            "Tags": list(request.get("Tags", ())),
            **members,
        }
        self.put(kind, record)
        return record

    def get(self, kind: str, name: object) -> Document:
        """Return a record; raise `ServiceError` if it is missing."""
        try:
            return self.of[kind][str(name)]
        except KeyError as error:
            raise missing(f"The {_WORDS.get(kind, kind).lower()} with name {name} cannot be found.") from error

    def put(self, kind: str, record: Document) -> None:
        """Store a changed record."""
        self.of[kind][record["Arn" if kind == "Policy" else f"{kind}Name"]] = record

    def under_path(self, kind: str, request: Request) -> list[Document]:
        """Return the records with a path that begins with the one in a request."""
        prefix = request.get("PathPrefix") or "/"
        return [record for record in self.of[kind].all() if record["Path"].startswith(prefix)]

    def policy(self, arn: str) -> Document:
        """Return a managed policy with its ``versions``, of the account or of AWS."""
        if arn in self.of["Policy"]:
            return self.of["Policy"][arn]
        found = aws_policy(arn)
        if found is None:
            raise missing(f"Policy {arn} does not exist or is not attachable.")
        policy, document = found
        version = {"Document": json.dumps(document), "CreateDate": policy["UpdateDate"]}
        return {**policy, "versions": {policy["DefaultVersionId"]: version}}


def missing(message: str) -> ServiceError:
    return ServiceError("NoSuchEntity", message, 404)


def in_use(message: str) -> ServiceError:
    return ServiceError("DeleteConflict", f"Cannot delete entity, must {message} first.", 409)


def checked_policy(text: str) -> str:
    """Return the text of a policy; raise `ServiceError` if it is none."""
    try:
        document = json.loads(text)
        statements = document.get("Statement", [])
        for statement in [statements] if isinstance(statements, dict) else statements:
            if statement["Effect"] not in ("Allow", "Deny") or not {"Action", "NotAction"} & set(statement):
                raise ValueError(statement)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError("MalformedPolicyDocument", "Syntax errors in policy.") from error
    return text


def encoded(text: str) -> str:
    """Return a policy in the form of IAM's answers."""
    return quote(text, safe="")


def listed(name: str, rows: Sequence[Any], request: Request) -> Answer:
    """Return one page of a list."""
    shown, token = page(rows, request.get("Marker"), request.get("MaxItems", PAGE))
    return {name: shown, "IsTruncated": token is not None, "Marker": token}


def new_id(prefix: str) -> str:
    """Return a new id in IAM's form, for example ``"AROA..."``."""
    alphabet = string.ascii_uppercase + "234567"
    return prefix + "".join(secrets.choice(alphabet) for _ in range(17))


def new_key(kind: str = "AKIA", token: str | None = None) -> AccessKey:
    """Return a new access key in AWS's form. Keys of sessions have the kind ``"ASIA"`` and a token."""
    return AccessKey(new_id(kind)[:20], secrets.token_urlsafe(30), token)


def now() -> str:
    """Return the time in the form of AWS's answers."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
