"""The IAM policies that people need to run knots, to create them, and to administer them. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypedDict

from cloudknot.aws.permissions.statements import GRANTS, LEVELS, Grant
from cloudknot.errors import refuse

ACCOUNT, REGION = "ACCOUNT_ID", "REGION"
"""Placeholders for an unknown account number and region."""
LONGEST_POLICY = 6144
"""Most characters of a managed policy, without white space (IAM user guide, "IAM and AWS STS quotas")."""


@dataclass(frozen=True)
class Scope:
    """The account, region, bucket and repository that a policy covers."""

    account: str = ACCOUNT
    region: str = REGION
    bucket: str = ""
    repository: str = "cloudknot"
    partition: str = "aws"

    @property
    def names(self) -> dict[str, str]:
        """The values for the names in braces in a statement's resources."""
        return {
            "here": f"{self.region}:{self.account}",
            "account": self.account,
            "bucket": self.bucket or f"cloudknot-{self.account}-{self.region}",
            "repository": self.repository,
            "partition": self.partition,
            "suffix": "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com",
        }


class Statement(TypedDict, total=False):
    """A statement in IAM's form. Most have no condition."""

    Sid: str
    Effect: str
    Action: list[str]
    Resource: str | list[str]
    Condition: dict[str, dict[str, list[str]]]


class Document(TypedDict):
    """A policy in IAM's form."""

    Version: str
    Statement: list[Statement]


def statement(grant: Grant, scope: Scope) -> Statement:
    """Return a statement in IAM's form, with the names of a scope."""
    names = scope.names
    arns = [
        resource if resource == "*" else f"arn:{{partition}}:{resource}".format_map(names)
        for resource in grant.resources
    ]
    result: Statement = {
        "Sid": grant.sid,
        "Effect": "Allow",
        "Action": list(grant.actions),
        "Resource": arns[0] if len(arns) == 1 else arns,
    }
    if grant.condition:
        result["Condition"] = {
            operator: {key: [value.format_map(names) for value in values] for key, values in conditions.items()}
            for operator, conditions in grant.condition.items()
        }
    return result


def policy(level: str, scope: Scope, lacking: str = "") -> Document:
    """Return the policy document of a level.

    Parameters
    ----------
    level : {"run", "create", "administer"}
    scope : Scope
    lacking : str, default ""
        The Sid of a statement to leave out. The statements that it replaces are then included.

    Raises
    ------
    CloudknotInputError
        There is no such level.
    """
    if level not in LEVELS:
        refuse(
            problem=f"level={level!r} is not 'run', 'create' or 'administer'.",
            fix="Pass for example level='run'.",
        )
    return {"Version": "2012-10-17", "Statement": [statement(grant, scope) for grant in grants(level, lacking)]}


def grants(level: str, lacking: str = "") -> list[Grant]:
    """Return the statements of a level and of the levels below it, lowest level first."""
    # A policy may have 6,144 characters, so a statement that another one includes is left out.
    held = [grant for grant in GRANTS if LEVELS.index(grant.level) <= LEVELS.index(level) and grant.sid != lacking]
    replaced = {sid for grant in held for sid in grant.replaces}
    return [grant for grant in held if grant.sid not in replaced]


def allowing(action: str, resource: str = "") -> Iterator[Grant]:
    """Yield the statements that allow an action (``"batch:SubmitJob"``), the best match for the resource first."""
    matches = [grant for grant in GRANTS if action.lower() in map(str.lower, grant.actions)]
    start = f"{resource.split(':')[2]}:" if resource.startswith("arn:") else "*"
    everything = resource.endswith("/*")

    def distance(grant: Grant) -> tuple[bool, bool, bool]:
        of_kind = any(_is_of_kind(resource, pattern) for pattern in grant.resources)
        narrower = everything and not any(pattern.endswith("/*") for pattern in grant.resources)
        return not any(pattern.startswith(start) for pattern in grant.resources), not of_kind, narrower

    yield from sorted(matches, key=distance)


def _is_of_kind(arn: str, pattern: str) -> bool:
    """Return whether an ARN and a statement's resource have the same kind, for example ``"job-queue"``."""
    tails = arn.split(":", 5)[-1], pattern.rpartition("}:")[2]
    kind, kind_pattern = (re.split("[/:]", tail)[0] for tail in tails)
    return fnmatchcase(kind, kind_pattern)


def size(document: Mapping[str, object]) -> int:
    """Return the number of characters of a policy, as IAM counts them."""
    return len(json.dumps(document, separators=(",", ":")))
