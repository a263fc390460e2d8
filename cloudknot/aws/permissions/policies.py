"""The IAM policies that people need: to run, to create, to administer. No I/O."""

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
"""Stand for what is not known."""
LONGEST_POLICY = 6144
"""Characters without white space that a managed policy may have (IAM user guide, "IAM and AWS STS quotas")."""


@dataclass(frozen=True)
class Scope:
    """Whose resources a policy is about."""

    account: str = ACCOUNT
    region: str = REGION
    bucket: str = ""
    repository: str = "cloudknot"
    partition: str = "aws"

    @property
    def names(self) -> dict[str, str]:
        """What the words in braces of a statement stand for."""
        return {
            "here": f"{self.region}:{self.account}",
            "account": self.account,
            "bucket": self.bucket or f"cloudknot-{self.account}-{self.region}",
            "repository": self.repository,
            "partition": self.partition,
            "suffix": "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com",
        }


class Statement(TypedDict, total=False):
    """A statement as IAM writes it; most have no condition."""

    Sid: str
    Effect: str
    Action: list[str]
    Resource: str | list[str]
    Condition: dict[str, dict[str, list[str]]]


class Document(TypedDict):
    """A policy as IAM writes it."""

    Version: str
    Statement: list[Statement]


def statement(grant: Grant, scope: Scope) -> Statement:
    """Return a statement as it stands in a policy document."""
    names = scope.names
    arns = [one if one == "*" else f"arn:{{partition}}:{one}".format_map(names) for one in grant.resources]
    written: Statement = {
        "Sid": grant.sid,
        "Effect": "Allow",
        "Action": list(grant.actions),
        "Resource": arns[0] if len(arns) == 1 else arns,
    }
    if grant.condition:
        written["Condition"] = {
            operator: {key: [value.format_map(names) for value in values] for key, values in wanted.items()}
            for operator, wanted in grant.condition.items()
        }
    return written


def policy(level: str, scope: Scope, lacking: str = "") -> Document:
    """The policy document of a level. Raises `CloudknotInputError` for an unknown one.

    ``lacking`` is the Sid of a statement to leave out; what that one stands in for is then there itself.
    """
    if level not in LEVELS:
        refuse(
            problem=f"level={level!r} is not 'run', 'create' or 'administer'.",
            fix="Pass for example level='run'.",
        )
    return {"Version": "2012-10-17", "Statement": [statement(grant, scope) for grant in grants(level, lacking)]}


def grants(level: str, lacking: str = "") -> list[Grant]:
    """The statements of a level, those of the levels below it first. None of them is idle beside the others."""
    held = [grant for grant in GRANTS if LEVELS.index(grant.level) <= LEVELS.index(level) and grant.sid != lacking]
    replaced = {sid for grant in held for sid in grant.replaces}
    return [grant for grant in held if grant.sid not in replaced]


def allowing(action: str, resource: str = "") -> Iterator[Grant]:
    """The statements that allow an action (``"batch:SubmitJob"``), those about such a resource first."""
    found = [grant for grant in GRANTS if any(action.lower() == one.lower() for one in grant.actions)]
    start = f"{resource.split(':')[2]}:" if resource.startswith("arn:") else "*"
    everything = resource.endswith("/*")

    def distance(grant: Grant) -> tuple[bool, bool, bool]:
        of_kind = any(_is_of_kind(resource, one) for one in grant.resources)
        narrower = everything and not any(one.endswith("/*") for one in grant.resources)
        return not any(one.startswith(start) for one in grant.resources), not of_kind, narrower

    yield from sorted(found, key=distance)


def _is_of_kind(arn: str, pattern: str) -> bool:
    """Whether an ARN is of the kind (``"job-queue"``) that a statement's resource is about."""
    found, wanted = (re.split("[/:]", tail)[0] for tail in (arn.split(":", 5)[-1], pattern.rpartition("}:")[2]))
    return fnmatchcase(found, wanted)


def size(document: Mapping[str, object]) -> int:
    """Characters of a policy as IAM counts them."""
    return len(json.dumps(document, separators=(",", ":")))
