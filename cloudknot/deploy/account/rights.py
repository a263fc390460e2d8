"""Check the rights for a removal of several steps before the first of them, by calls that change nothing.

AWS checks the caller's rights before it looks at the request. So a deletion that AWS must refuse for another reason,
such as that of an enabled queue, shows whether the caller has the right. CloudFormation offers no such call: the
deletion of the stack itself is therefore the first step that changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ParamSpec

from cloudknot.aws import batch, clients
from cloudknot.errors import CloudError, PermissionDeniedError

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import ComputeEnvironmentDetailTypeDef

    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository

P = ParamSpec("P")

NO_REVISION = 2**31 - 1
"""A number that no revision of a job definition has."""
NO_JOB = "00000000-0000-0000-0000-000000000000"
"""An id that no job has."""
NO_IMAGE = f"sha256:{'0' * 64}"
"""A digest that no image has."""
NO_OBJECT = "no-object"
"""The end of a key that no object has. Run ids look different."""


def check_batch_rights(cloud: Cloud, queue: str, environment: str, revisions: Sequence[batch.JobDefinition]) -> None:
    """Raise `PermissionDeniedError` if the caller may not delete a knot's resources of Batch, or its launch template.

    Without a queue, the knot uses that of another one. The caller then needs the right to end jobs.
    ``batch:UpdateJobQueue`` and ``logs:DeleteLogGroup`` cannot be checked in this way.
    """
    client = clients.batch(cloud)
    if revisions:
        definition = revisions[0]["jobDefinitionArn"].rpartition(":")[0]
        _attempt(client.deregister_job_definition, jobDefinition=f"{definition}:{NO_REVISION}")
    if not queue:
        _attempt(client.terminate_job, jobId=NO_JOB, reason="A check of permissions")
        return
    # Batch deletes disabled queues and environments only (API reference, DeleteJobQueue and
    # DeleteComputeEnvironment). A person may have disabled one, so only an enabled one is named.
    for found in client.describe_job_queues(jobQueues=[queue])["jobQueues"]:
        if found["state"] == "ENABLED":
            _attempt(client.delete_job_queue, jobQueue=queue)
    for described in client.describe_compute_environments(computeEnvironments=[environment])["computeEnvironments"]:
        if described.get("state") == "ENABLED":
            _attempt(client.delete_compute_environment, computeEnvironment=environment)
        # Only for unmanaged environments (API reference, UpdateComputeEnvironment). CloudFormation has to disable it.
        _attempt(client.update_compute_environment, computeEnvironment=environment, unmanagedvCpus=1)
        if template := _launch_template(described):
            _attempt(clients.ec2(cloud).delete_launch_template, LaunchTemplateId=template, DryRun=True)


def _launch_template(environment: ComputeEnvironmentDetailTypeDef) -> str:
    return environment.get("computeResources", {}).get("launchTemplate", {}).get("launchTemplateId", "")


def check_image_rights(repositories: Iterable[Repository], whole: bool) -> None:
    """Raise `PermissionDeniedError` if the caller may not delete images, or with ``whole`` the whole repositories."""
    for repository in repositories:
        if not whole:
            _attempt(repository.delete_images, [NO_IMAGE])
        else:
            repository.check_right_to_delete()


def check_deletion_of_objects(cloud: Cloud, prefix: str) -> None:
    """Raise `PermissionDeniedError` if the caller may not delete the objects under a prefix."""
    # S3 reports success for a key without an object. The bucket may not exist.
    _attempt(cloud.storage.delete, f"{prefix.rstrip('/')}/{NO_OBJECT}")


def _attempt(call: Callable[P, object], *arguments: P.args, **keywords: P.kwargs) -> None:
    """Make a call that AWS refuses, and raise only if it refuses it for lack of a right, or does not answer."""
    try:
        call(*arguments, **keywords)
    except PermissionDeniedError:
        raise
    except CloudError as error:
        # Without a code, there was no answer.
        if not error.code:
            raise
