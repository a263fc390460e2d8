"""Why a stack failed: the resources at fault, AWS's reasons, and what they mean to who does not know AWS. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import StackEventTypeDef

_QUOTA = (
    "Your account's limit for that is reached. Remove what is not needed (`cloudknot list` shows your knots, "
    "`cloudknot clobber NAME` removes one), or ask AWS for more (Service Quotas in its console)"
)
_LINKED_ROLE = (
    "{} a role of its own in your account, which is made once, by somebody who may: "
    "`aws iam create-service-linked-role --aws-service-name {}.amazonaws.com`"
)
_GONE = (
    "Something that your knots share was deleted outside of cloudknot. Remove the rest of it, by `cloudknot clobber "
    "--pars` with the names of your knots; the next Knot(...) makes it anew, and results stay"
)
_REGION = "The region is not switched on for your account. Use another: cloudknot.set_region(...)"
_TYPE = "Other instance_types=, or another region, may have it"
_TAKEN = (
    "Something else has that name already. Choose another one (name=, or the choice that names this resource), or "
    "delete what has it"
)
_POLICY = (
    "Somebody gave the role another policy. Take it away (`aws iam detach-role-policy --role-name ... --policy-arn "
    "...`) and call again"
)
_IN_USE = "Something else uses it: an instance, a network interface or another stack. Delete that first"
_LINKED = r"service-linked role|CreateServiceLinkedRole|AWSServiceRoleFor"
_DENIED = re.compile(r"not authorized to perform: (?!iam:CreateServiceLinkedRole)")
"""A denied call of another action: `cloudknot.aws.permissions.denials` names the missing statement."""

MEANINGS: tuple[tuple[str, str], ...] = (
    (rf"spot ?fleet.*({_LINKED})|({_LINKED}).*spot ?fleet", _LINKED_ROLE.format("Spot fleets need", "spotfleet")),
    (rf"spot.*({_LINKED})|({_LINKED}).*spot", _LINKED_ROLE.format("Spot instances need", "spot")),
    (_LINKED, _LINKED_ROLE.format("AWS Batch needs", "batch")),
    (r"OptInRequired|not subscribed|region .*(disabled|not enabled|not switched on)", _REGION),
    (r"must detach all policies|must delete policies first", _POLICY),
    (r"DependencyViolation|has a dependent object|has dependencies|existing JobQueue relationship", _IN_USE),
    (
        r"LimitExceeded|limit (is |was |has been )?(exceeded|reached)|exceed(s|ed)? .*(limit|quota)|maximum number",
        _QUOTA,
    ),
    (r"(subnet|vpc|security ?group|role|profile)\b.*(does not exist|not found|cannot be found)", _GONE),
    (r"Could not find (IAM )?(role|instance ?profile)|Invalid(Subnet|Vpc|VpcID|Group|SubnetID)\b", _GONE),
    (
        r"instance ?type.*(not supported|not available|does not exist|unsupported|invalid)|unsupported .*instance",
        _TYPE,
    ),
    (r"already exists|AlreadyExists", _TAKEN),
)
"""What AWS's reasons mean: the first pattern that is found counts."""


def failures(rows: Iterable[StackEventTypeDef], stack_id: str) -> str:
    """The resources that failed in the last operation, and why; empty when there are none.

    ``rows`` are those of DescribeStackEvents, newest first, as AWS gives them.
    """
    rows = list(_last_operation(rows, stack_id))
    failed = [row for row in rows if row["ResourceStatus"].endswith("_FAILED")]
    causes = [row for row in failed if "cancelled" not in row.get("ResourceStatusReason", "").lower()]
    told = [
        f"{row['LogicalResourceId']} ({row['ResourceType']}): {_reason(row)}"
        for row in reversed(causes or failed)
        if row.get("PhysicalResourceId") != stack_id
    ]
    meanings = dict.fromkeys(filter(None, (meaning(row.get("ResourceStatusReason", "")) for row in reversed(causes))))
    return ". ".join(["; ".join(dict.fromkeys(told)), *meanings]) if told else ""


def meaning(reason: str) -> str:
    """What a reason of AWS's means and what to do, without a full stop; empty when it is none of the common ones."""
    if _DENIED.search(reason):
        return ""
    return next((said for pattern, said in MEANINGS if re.search(pattern, reason, re.IGNORECASE)), "")


def _reason(row: StackEventTypeDef) -> str:
    """AWS's own words, without the ids that only AWS's support can use."""
    reason = str(row.get("ResourceStatusReason") or "no reason given")
    handled = re.match(r'Resource handler returned message: "(.*)" \(RequestToken: [^)]*\)$', reason, re.DOTALL)
    reason = handled[1] if handled else reason
    reason = re.sub(r",? \(?(Service: [^)]*|Request ID: [-\w]+)\)?$", "", reason)
    return re.sub(r"^Error executing request, Exception : (.*?)(, RequestId: [-\w]+)?$", r"\1", reason).rstrip(". ")


def _last_operation(rows: Iterable[StackEventTypeDef], stack_id: str) -> Iterator[StackEventTypeDef]:
    """The events since somebody last asked for something."""
    for row in rows:
        yield row
        if row.get("PhysicalResourceId") == stack_id and row.get("ResourceStatusReason") == "User Initiated":
            return
