"""Managed policies of IAM by their names: the user's own, and AWS's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.errors import refuse
from cloudknot.options.validators import argument, near_matches

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

PAGE = 1000
"""Policies a request (IAM API reference, ListPolicies, MaxItems); AWS has more than a thousand."""


def policy_arns(cloud: Cloud, policies: Mapping[str, str]) -> dict[str, str]:
    """Return ARNs by name and by ARN: of the user's own policy where there is one, else of AWS's.

    Parameters
    ----------
    policies : mapping of str to str
        Names or ARNs, each with the parameter that the caller was given it by.

    Raises
    ------
    CloudknotInputError
        There is no such policy; the message names the parameter and lists near matches.
    """
    found = _listed(cloud, policies)
    for policy, parameter in policies.items():
        if policy not in found:
            near = near_matches(policy, found)
            refuse(
                problem=f"{argument(parameter, policy)} is not an IAM policy of your account or of AWS.",
                cause=f"Near matches: {', '.join(near)}." if near else "",
                fix=f"Use {near[0]!r}, for example." if near else "Use one that `aws iam list-policies` lists.",
            )
    return {policy: found[policy] for policy in policies}


def policy_arn(cloud: Cloud, name: str) -> str | None:
    """The ARN of one policy; None when there is none of that name."""
    return _listed(cloud, [name]).get(name)


def names_of(arn: str) -> tuple[str, str]:
    """What a policy is called: with its path, and without."""
    path = arn.partition(":policy/")[2]
    return path, path.rpartition("/")[2]


def _listed(cloud: Cloud, names: Collection[str]) -> dict[str, str]:
    """ARNs by name and by ARN; AWS's own policies are listed only if the user has none of some name."""
    found: dict[str, str] = {}
    for scope in ("Local", "AWS"):
        policies = clients.iam(cloud).get_paginator("list_policies")
        pages = policies.paginate(Scope=scope, PaginationConfig={"PageSize": PAGE})
        arns = [str(item["Arn"]) for page in pages for item in page["Policies"]]
        listed = {name: arn for arn in arns for name in (arn, *names_of(arn))}
        found = {**listed, **found}
        if all(name in found for name in names):
            break
    return found
