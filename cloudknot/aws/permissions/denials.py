"""Explain a denied call: its cause, and the statement of the policy that would allow it. No I/O.

AWS's own message usually names the action and the resource (IAM user guide, "Troubleshoot access denied error
messages"). For a message that does not, the action is derived from the operation.
"""

from __future__ import annotations

import re

from cloudknot.aws.permissions.policies import allowing
from cloudknot.errors import PermissionDeniedError

_DENIAL = re.compile(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)"
    r'(?: on resource: "?(?P<resource>arn:[^"\s]+)"?)?(?P<denied>.* explicit deny)?'
    r"(?P<bounded>.* no permissions boundary)?"
)
_ACTIONS = {
    "s3:complete_multipart_upload": "s3:PutObject",
    "s3:create_multipart_upload": "s3:PutObject",
    "s3:delete_objects": "s3:DeleteObject",
    "s3:head_bucket": "s3:ListBucket",
    "s3:head_object": "s3:GetObject",
    "s3:list_objects_v2": "s3:ListBucket",
    "s3:put_bucket_encryption": "s3:PutEncryptionConfiguration",
    "s3:put_bucket_lifecycle_configuration": "s3:PutLifecycleConfiguration",
    "s3:put_public_access_block": "s3:PutBucketPublicAccessBlock",
    "s3:upload_part": "s3:PutObject",
    "batch:terminate_jobs": "batch:TerminateJob",
}
"""The actions of operations that have another name than their action (Service Authorization Reference)."""

_EXPLICIT = (
    "A policy of your account or organisation explicitly denies {action}, and no other policy can override that. Such "
    "a rule often covers a whole region. Ask the administrator of your AWS account to change it."
)
_ALLOWED = (
    "The permission {action} (for {purpose}) is missing. The statement {sid} of the policy that "
    "`cloudknot permissions {level}` prints grants it. Ask the administrator of your AWS account for that policy."
)
_ROLES = (
    " If that policy demands a permissions boundary, name it: Pars(..., permissions_boundary=ARN), or set "
    "CLOUDKNOT_PERMISSIONS_BOUNDARY. Such a policy also limits the policies that a Pars may name."
)
_BOUNDED = (
    "The permissions boundary of this user or role does not allow {action}, and no other policy can override that. "
    "Ask the administrator of your AWS account to add it to the boundary."
)
_FOREIGN = (
    "The permission {action} is missing, and no policy of cloudknot's has it. Ask the administrator of your AWS "
    "account to allow it. If a job needs it, name a policy that allows it: Knot(..., pars_policies=...)."
)
_KEY = (
    "The permission {action} is missing for the KMS key that encrypts the bucket. Ask the administrator of that key "
    "to allow you kms:GenerateDataKey and kms:Decrypt. Jobs need the same: name a policy that allows it with "
    "cloudknot.set_s3_params(bucket, policy=...)."
)


def advice(reason: str, operation: str = "") -> str:
    """Return the cause of a denial and its fix, as whole sentences; empty when the text reports no denial.

    Parameters
    ----------
    reason : str
        AWS's message, for example ``"User: ... is not authorized to perform: batch:SubmitJob on resource: ..."``.
    operation : str
        The call in the door's spelling (``"batch:submit_job"``), used when AWS does not name the action.
    """
    denial = _DENIAL.search(reason)
    action = denial["action"] if denial else action_of(operation)
    if not action:
        return ""
    if denial and denial["denied"]:
        return _EXPLICIT.format(action=action)
    if denial and denial["bounded"]:
        return _BOUNDED.format(action=action)
    for grant in allowing(action, (denial and denial["resource"]) or ""):
        text = _ALLOWED.format(action=action, sid=grant.sid, level=grant.level, purpose=grant.purpose)
        return f"{text}{_ROLES if grant.bounded else ''}"
    return (_KEY if action.startswith("kms:") else _FOREIGN).format(action=action)


def denial_in(failures: str) -> PermissionDeniedError | None:
    """Return the denied call among a stack's failures, as the error of that call; None when none was denied.

    CloudFormation calls the other services with the user's credentials, so its denials are the user's.
    """
    denial = _DENIAL.search(failures)
    if denial is None:
        return None
    service, _, operation = denial["action"].partition(":")
    quote = failures[denial.start() :].partition(" action")[0]
    text = (
        f"CloudFormation may not call {denial['action']} with your credentials. {advice(failures)} "
        f"AWS answered: {quote}"
    )
    return PermissionDeniedError(text, code="AccessDenied", operation=f"{service}:{operation}")


def action_of(operation: str) -> str:
    """Return the IAM action of an operation: ``"batch:SubmitJob"`` for ``"batch:submit_job"``."""
    service, _, name = operation.partition(":")
    if not name:
        return ""
    return _ACTIONS.get(operation, f"{service}:{''.join(word.capitalize() for word in name.split('_'))}")
