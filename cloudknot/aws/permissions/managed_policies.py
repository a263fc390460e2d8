"""Look up managed IAM policies by name or ARN: the account's own, and those of AWS."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.errors import refuse
from cloudknot.options.validators import argument, near_matches

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

PAGE = 1000
"""Policies in one request (IAM API reference, ListPolicies, MaxItems). AWS has more than a thousand."""


def policy_arns(cloud: Cloud, policies: Mapping[str, str]) -> dict[str, str]:
    """Return the ARN of each policy. For a name, the account's own policy comes before AWS's.

    Parameters
    ----------
    cloud : Cloud
    policies : mapping of str to str
        Names or ARNs of policies. The values are the parameters that named them, for the error.

    Raises
    ------
    CloudknotInputError
        A policy does not exist. The message names its parameter and lists near matches.
    """
    arns = _list_arns(cloud, policies)
    for policy, parameter in policies.items():
        if policy not in arns:
            near = near_matches(policy, arns)
            refuse(
                problem=f"{argument(parameter, policy)} is not an IAM policy of your account or of AWS.",
                cause=f"Near matches: {', '.join(near)}." if near else "",
                fix=f"Use {near[0]!r}, for example." if near else "Use one that `aws iam list-policies` lists.",
            )
    return {policy: arns[policy] for policy in policies}


def policy_arn(cloud: Cloud, name: str) -> str | None:
    """Return the ARN of one policy; None if no policy has that name."""
    return _list_arns(cloud, [name]).get(name)


def names_of(arn: str) -> tuple[str, str]:
    """Return the two names of a policy: with its path and without."""
    path = arn.partition(":policy/")[2]
    return path, path.rpartition("/")[2]


def _list_arns(cloud: Cloud, names: Collection[str]) -> dict[str, str]:
    """Return the ARNs of policies by name and by ARN, until all ``names`` are among them."""
    # One permission covers IAM's lists, for names and ARNs alike. A look-up of each ARN would need another permission.
    # AWS's long list is read only if a name is not among the account's own.
    result: dict[str, str] = {}
    for scope in ("Local", "AWS"):
        policies = clients.iam(cloud).get_paginator("list_policies")
        pages = policies.paginate(Scope=scope, PaginationConfig={"PageSize": PAGE})
        arns = [str(item["Arn"]) for page in pages for item in page["Policies"]]
        listed = {name: arn for arn in arns for name in (arn, *names_of(arn))}
        result = {**listed, **result}
        if all(name in result for name in names):
            break
    return result
