"""Explain failed stacks: the failed resources, AWS's reasons, and advice for readers new to AWS. No remote calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cloudknot.aws.error_table import BATCH_QUOTA
from cloudknot.aws.permissions.denials import denial_in

if TYPE_CHECKING:
    from types_boto3_cloudformation.type_defs import StackEventTypeDef

_QUOTA = (
    "Your account has reached its limit for this kind of resource. Remove knots that you no longer need "
    "(`cloudknot list` shows them, `cloudknot clobber NAME` removes one), or ask AWS for a higher limit: Service "
    "Quotas in the AWS console."
)
_LINKED_ROLE = (
    "{} a role that your account does not have yet. Somebody with the permission to create roles can add it, once for "
    "the account: `aws iam create-service-linked-role --aws-service-name {}.amazonaws.com`."
)
_GONE = (
    "A resource that your knots share was deleted outside of cloudknot. Run `cloudknot clobber --pars` with the names "
    "of all your knots: it removes them with the remaining shared resources, and keeps results. Knot(...) then "
    "creates everything again."
)
_REGION = 'This region is not switched on for your account. Use another one: cloudknot.set_region("us-east-1").'
_TYPE = "Choose other machines with instance_types=, or another region: cloudknot.set_region(...)."
_TAKEN = (
    "Another resource already has this name. Choose another name (name=, or the argument that names this resource), "
    "or delete the other resource."
)
_POLICY = (
    "Somebody attached another policy to the role. Detach it: "
    "`aws iam detach-role-policy --role-name ROLE --policy-arn ARN`."
)
_IN_USE = "Another resource still uses it: an instance, a network interface or another stack. Delete that one first."
_BATCH_NOUN = r"(job ?queue|compute ?environment)s?\b"
_BATCH_LIMIT = rf"(limit|quota|maximum)\b.*{_BATCH_NOUN}|{_BATCH_NOUN}.*(limit|quota)"
_LINKED = r"service-linked role|CreateServiceLinkedRole|AWSServiceRoleFor"
# `cloudknot.aws.permissions.denials` explains denied calls and names the missing statement. Only the creation of a
# service-linked role has a better remedy here: the command that creates it.
_DENIED = re.compile(r"not authorized to perform: (?!iam:CreateServiceLinkedRole)")

# The first matching pattern decides, so specific ones stand before general ones: "spot" also occurs in "spot fleet".
ADVICE: tuple[tuple[str, str], ...] = (
    (rf"spot ?fleet.*({_LINKED})|({_LINKED}).*spot ?fleet", _LINKED_ROLE.format("Spot fleets need", "spotfleet")),
    (rf"spot.*({_LINKED})|({_LINKED}).*spot", _LINKED_ROLE.format("Spot instances need", "spot")),
    (_LINKED, _LINKED_ROLE.format("AWS Batch needs", "batch")),
    (r"OptInRequired|not subscribed|region .*(disabled|not enabled|not switched on)", _REGION),
    (r"must detach all policies|must delete policies first", _POLICY),
    (r"DependencyViolation|has a dependent object|has dependencies|existing JobQueue relationship", _IN_USE),
    (_BATCH_LIMIT, BATCH_QUOTA),
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
"""Patterns of AWS's reasons, and advice for each in whole sentences."""


def failures(events: Iterable[StackEventTypeDef], stack_id: str) -> str:
    """Return the resources that failed in the last operation, AWS's reasons and advice, as whole sentences.

    Empty when no resource failed.

    Parameters
    ----------
    events : iterable of dict
        The stack's events as DescribeStackEvents returns them, newest first.
    stack_id : str
    """
    failed = [event for event in _last_operation(events, stack_id) if event["ResourceStatus"].endswith("_FAILED")]
    # CloudFormation cancels its work on all other resources after the first failure. Only the first ones are causes.
    causes = [event for event in failed if "cancelled" not in event.get("ResourceStatusReason", "").lower()]
    reasons = [
        f"{event['LogicalResourceId']} ({event['ResourceType']}): {_reason(event)}"
        for event in reversed(causes or failed)
        if event.get("PhysicalResourceId") != stack_id
    ]
    if not reasons:
        return ""
    advice = filter(None, (advice_for(event.get("ResourceStatusReason", "")) for event in reversed(causes)))
    return " ".join([f"{'; '.join(dict.fromkeys(reasons))}.", *dict.fromkeys(advice)])


def denied_resources(events: Iterable[StackEventTypeDef], stack_id: str) -> list[str]:
    """Return the logical ids of the resources whose update was denied, for an update with its failed rollback.

    Parameters
    ----------
    events : iterable of dict
        The stack's events as DescribeStackEvents returns them, newest first.
    stack_id : str
    """
    newest: dict[str, StackEventTypeDef] = {}
    for event in _last_operation(events, stack_id):
        newest.setdefault(event.get("LogicalResourceId", ""), event)
    return [
        name
        for name, event in newest.items()
        if event.get("ResourceStatus") == "UPDATE_FAILED"
        and event.get("PhysicalResourceId") != stack_id
        and denial_in(event.get("ResourceStatusReason", ""))
    ]


def advice_for(reason: str) -> str:
    """Return the remedy for a common reason of AWS's, as whole sentences; empty for other reasons."""
    if _DENIED.search(reason):
        return ""
    return next((advice for pattern, advice in ADVICE if re.search(pattern, reason, re.IGNORECASE)), "")


def _reason(event: StackEventTypeDef) -> str:
    """Return AWS's own words, without the request ids that only AWS's support can use."""
    reason = str(event.get("ResourceStatusReason") or "no reason given")
    handled = re.match(r'Resource handler returned message: "(.*)" \(RequestToken: [^)]*\)$', reason, re.DOTALL)
    reason = handled[1] if handled else reason
    reason = re.sub(r",? \(?(Service: [^)]*|Request ID: [-\w]+)\)?$", "", reason)
    return re.sub(r"^Error executing request, Exception : (.*?)(, RequestId: [-\w]+)?$", r"\1", reason).rstrip(". ")


def _last_operation(events: Iterable[StackEventTypeDef], stack_id: str) -> Iterator[StackEventTypeDef]:
    """Yield the events of the newest creation, update or deletion, newest first."""
    for event in events:
        yield event
        # CloudFormation marks the first event of each requested operation with this reason. Older events are
        # failures of earlier operations, which would be misleading here.
        if event.get("PhysicalResourceId") == stack_id and event.get("ResourceStatusReason") == "User Initiated":
            return
