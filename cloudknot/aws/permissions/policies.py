"""The IAM policies that people need to run knots, to create them, and to administer them. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypedDict

from cloudknot.aws.permissions.statements import BOUNDARY, EXTRAS, GRANTS, LEVELS, Condition, Grant
from cloudknot.errors import refuse
from cloudknot.options.validators import KNOT_NAME, aws_name

ACCOUNT, REGION = "ACCOUNT_ID", "REGION"
"""Placeholders for an unknown account number and region."""
LONGEST_POLICY = 6144
"""Most characters of a managed policy, without white space (IAM user guide, "IAM and AWS STS quotas")."""


@dataclass(frozen=True)
class Scope:
    """The account, region, bucket and repository that a policy covers.

    With a ``boundary`` (the ARN of a policy), roles may only be made with this permissions boundary. Only the managed
    policies of the templates and ``policies`` (ARNs) may be attached to them.

    ``knot`` limits it to one knot. ``compute`` is the knot whose queue that one uses, if it has none of its own.
    ``owner`` is the account of the bucket, if it is another one.
    """

    account: str = ACCOUNT
    region: str = REGION
    bucket: str = ""
    repository: str = "cloudknot"
    partition: str = "aws"
    boundary: str = ""
    policies: tuple[str, ...] = ()
    knot: str = ""
    compute: str = ""
    owner: str = ""

    @property
    def names(self) -> dict[str, str]:
        """The values for the names in braces in a statement's resources."""
        return {
            "here": f"{self.region}:{self.account}",
            "account": self.account,
            "bucket": self.bucket or f"cloudknot-{self.account}-{self.region}",
            "repository": self.repository,
            "knot": self.knot,
            "queue": self.compute or self.knot,
            "owner": self.owner or self.account,
            "partition": self.partition,
            "boundary": self.boundary,
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
    resources = (scope.knot and grant.knot_resources) or grant.resources
    arns = [
        resource if resource == "*" else f"arn:{{partition}}:{resource}".format_map(names) for resource in resources
    ]
    result: Statement = {
        "Sid": grant.sid,
        "Effect": "Allow",
        "Action": list(grant.actions),
        "Resource": arns[0] if len(arns) == 1 else arns,
    }
    condition = {**grant.condition, **(grant.bounded if scope.boundary else {})}
    if scope.knot:
        condition |= grant.knot_condition
    if condition:
        result["Condition"] = _filled(condition, scope)
    return result


def _filled(condition: Condition, scope: Scope) -> dict[str, dict[str, list[str]]]:
    """Return a condition with the names of a scope."""
    names, lists = scope.names, {"{policies}": scope.policies}
    return {
        operator: {
            key: list(dict.fromkeys(item.format_map(names) for value in values for item in lists.get(value, (value,))))
            for key, values in tests.items()
        }
        for operator, tests in condition.items()
    }


def policy(level: str, scope: Scope) -> Document:
    """Return the policy document of a level, or the smallest permissions boundary.

    Parameters
    ----------
    level : {"run", "create", "network", "build", "administer", "boundary"}
    scope : Scope

    Raises
    ------
    CloudknotInputError
        There is no such level, the policy is longer than IAM allows, it cannot be limited to one knot, or the knot's
        name is not valid.
    """
    if level not in (*LEVELS, "boundary"):
        refuse(
            problem=f"level={level!r} is not {', '.join(map(repr, LEVELS))} or 'boundary'.",
            fix="Pass for example level='run'.",
        )
    if scope.knot:
        # A name with a wildcard would cover other knots.
        knot, compute = (aws_name(KNOT_NAME(name, getattr(scope, name) or scope.knot)) for name in ("knot", "compute"))
        scope = replace(scope, knot=knot, compute=compute)
    if scope.knot and level != "run":
        refuse(
            problem=f"The policy {level!r} cannot be limited to the knot {scope.knot!r}.",
            cause="Only 'run' can: with the other policies, a user also creates knots.",
            fix=f"Use `cloudknot permissions run --knot {scope.knot}`, or leave out the knot.",
        )
    document: Document = {
        "Version": "2012-10-17",
        "Statement": [statement(grant, scope) for grant in grants(level)],
    }
    if size(document) > LONGEST_POLICY:
        refuse(
            problem=f"The policy has {size(document):,} characters, and IAM allows {LONGEST_POLICY:,}.",
            cause=f"It names {len(scope.policies)} policies for jobs.",
            fix="Give these policies a common path, and pass it with an asterisk: "
            "--policy 'arn:aws:iam::123456789012:policy/lab/*'.",
        )
    return document


def grants(level: str) -> list[Grant]:
    """Return the statements of a level, or of the boundary."""
    # One policy for each level, not for all levels up to it: a managed policy may have 6,144 characters.
    return [grant for grant in (*GRANTS, *BOUNDARY) if grant.level == level]


def needed_with(level: str) -> tuple[str, ...]:
    """Return the levels whose policies a person needs besides that of ``level``."""
    below = () if level == "boundary" else LEVELS[: LEVELS.index(level)]
    return tuple(other for other in below if other not in EXTRAS)


def allowing(action: str, resource: str = "") -> Iterator[Grant]:
    """Yield the statements that allow an action (``"batch:SubmitJob"``), the best match for the resource first."""
    matches = [grant for grant in GRANTS if action.lower() in map(str.lower, grant.actions)]
    start = f"{resource.split(':')[2]}:" if resource.startswith("arn:") else "*"
    everything = resource.endswith("/*")

    def distance(grant: Grant) -> tuple[bool, bool, bool, int]:
        of_kind = any(_is_of_kind(resource, pattern) for pattern in grant.resources)
        narrower = everything and not any(pattern.endswith("/*") for pattern in grant.resources)
        # Of two statements that cover the resource, the more specific one is meant.
        specific = max((len(pattern) for pattern in grant.resources if _covers(pattern, resource)), default=0)
        return not any(pattern.startswith(start) for pattern in grant.resources), not of_kind, narrower, -specific

    yield from sorted(matches, key=distance)


def _covers(pattern: str, arn: str) -> bool:
    """Return whether a statement's resource covers an ARN, whatever the names in braces stand for."""
    wildcards = re.sub(r"\{\w+\}", "*", pattern)
    return fnmatchcase(arn, f"arn:*:{wildcards}")


def _is_of_kind(arn: str, pattern: str) -> bool:
    """Return whether an ARN and a statement's resource have the same kind, for example ``"job-queue"``."""
    tails = arn.split(":", 5)[-1], pattern.rpartition("}:")[2]
    kind, kind_pattern = (re.split("[/:]", tail)[0] for tail in tails)
    return fnmatchcase(kind, kind_pattern)


def size(document: Mapping[str, object]) -> int:
    """Return the number of characters of a policy, as IAM counts them."""
    return len(json.dumps(document, separators=(",", ":")))
