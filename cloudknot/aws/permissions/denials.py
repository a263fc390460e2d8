"""Why a call was denied, and which statement of which policy would allow it. Pure.

The words are AWS's (IAM user guide, "Troubleshoot access denied error messages"); where it says less, the action is
told by the operation.
"""

from __future__ import annotations

import re

from cloudknot.aws.permissions.policies import allowing
from cloudknot.errors import PermissionDeniedError

_WORDS = re.compile(
    r"not authorized to perform: (?P<action>[\w-]+:\w+)"
    r'(?: on resource: "?(?P<resource>arn:[^"\s]+)"?)?(?P<denied>.* explicit deny)?'
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
"""Operations whose actions have other names (Service Authorization Reference)."""

_EXPLICIT = (
    "A policy denies {action} explicitly, so no other can allow it. Ask whoever administers the AWS account: it may "
    "be a rule of the whole organisation, or of a region."
)
_ALLOWED = (
    "What allows {action} is the statement {sid} of the policy that `cloudknot permissions {level}` prints "
    "({purpose}). Whoever administers the AWS account can give you that policy."
)
_FOREIGN = (
    "No policy of cloudknot's is about {action}. Whoever administers the AWS account can allow it; what jobs may do "
    "is a matter of pars_policies."
)
_KEY = (
    "{action} is about the key that the bucket encrypts with. Whoever administers that key can let you use it "
    "(kms:GenerateDataKey and kms:Decrypt), and jobs by a managed policy that allows the same: "
    "set_s3_params(bucket, policy=...)."
)


def advice(reason: str, operation: str = "") -> str:
    """What to do about a denial, as whole sentences; empty when the text is of none.

    Parameters
    ----------
    reason : str
        AWS's words, for example ``"User: ... is not authorized to perform: batch:SubmitJob on resource: ..."``.
    operation : str
        The call as the door has it (``"batch:submit_job"``), for when AWS does not tell the action.
    """
    said = _WORDS.search(reason)
    action = said["action"] if said else action_of(operation)
    if not action:
        return ""
    if said and said["denied"]:
        return _EXPLICIT.format(action=action)
    for grant in allowing(action, (said and said["resource"]) or ""):
        return _ALLOWED.format(action=action, sid=grant.sid, level=grant.level, purpose=grant.purpose)
    return (_KEY if action.startswith("kms:") else _FOREIGN).format(action=action)


def denial_in(failures: str) -> PermissionDeniedError | None:
    """The denied call that a stack failed of, as the error that it would be by itself; None if none was denied."""
    said = _WORDS.search(failures)
    if said is None:
        return None
    service, _, operation = said["action"].partition(":")
    words = failures[said.start() :].partition(" action")[0]
    text = f"CloudFormation may not call {said['action']} for you: {words}. {advice(failures)}"
    return PermissionDeniedError(text, code="AccessDenied", operation=f"{service}:{operation}")


def action_of(operation: str) -> str:
    """The IAM action of an operation: ``"batch:submit_job"`` is ``"batch:SubmitJob"``."""
    service, _, name = operation.partition(":")
    if not name:
        return ""
    return _ACTIONS.get(operation, f"{service}:{''.join(word.capitalize() for word in name.split('_'))}")
