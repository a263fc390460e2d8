"""The knot's own resources: log group, job definition, job queue and compute environment.

Queue and compute environment change with the stack. What a job runs (image, vCPUs, memory, attempts, timeout, roles)
changes by registering another revision of the job definition, which takes a second where a stack takes minutes; maps
that are running keep the revision they began with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from cloudknot.aws import clients
from cloudknot.aws.tags import without_own
from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.iam import SPOT, linked_role
from cloudknot.deploy.inventory import is_of, job_definitions, stack_name
from cloudknot.deploy.job_definition import (
    active_revisions,
    facts,
    fargate_size,
    job_definition,
    retries_of,
    timeout_of,
    vcpus_of,
)
from cloudknot.deploy.plan import ARCHITECTURES, KnotPlan
from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.options.choices import KnotOptions

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDefinitionTypeDef, RegisterJobDefinitionRequestTypeDef

    from cloudknot.aws.cloud import Cloud
    from cloudknot.deploy.pars import Pars
    from cloudknot.deploy.prerequisites import Prerequisites

FREE = ("Image", "Environment", "Vcpus", "Memory", "Retries", "Timeout", "DesiredVcpus")
"""Parameters in which a difference is no reason for an update: the job definition's own, and where Batch began."""
_log = logging.getLogger("cloudknot")


class JobDefinition(NamedTuple):
    """The job definition that a knot's next map uses; ``arn`` is of the revision."""

    name: str
    arn: str
    output_bucket: str
    retries: int


@dataclass(frozen=True)
class KnotResources:
    """What a knot has in the cloud; ``job_definition_arn`` is of the revision to submit with."""

    stack_id: str
    job_definition_name: str
    job_definition_arn: str
    job_queue_name: str
    job_queue_arn: str
    compute_environment_name: str
    compute_environment_arn: str
    image_uri: str
    retries: int
    max_vcpus: int
    pars_name: str
    tags: Mapping[str, str]
    bucket: str
    """Of inputs and results."""
    fargate: tuple[int, int] | None = None
    """vCPUs and MiB of a job on Fargate, which takes certain pairs only; None on EC2."""
    vcpus: float = 1.0
    """Of a job."""
    timeout: int | None = None
    """Seconds that an attempt may take."""


def log_group_name(name: str) -> str:
    """Return the name of the log group of a knot's jobs."""
    return f"/cloudknot/{name}"


def wanted_parameters(
    options: KnotOptions,
    pars: Pars,
    image_uri: str,
    bucket: str,
    *,
    platform: str | None = None,
    environment: str = "none",
) -> dict[str, str]:
    """Return the parameters of a knot's stack.

    ``platform`` is the image's. ``environment`` is the tag of its environment, which tells a new function from new
    requirements.
    """
    return {
        "ParsName": pars.name,
        "JobDefinitionName": options.job_definition_name,
        "Image": image_uri,
        "Environment": environment,
        "Vcpus": str(options.job_def_vcpus),
        "Memory": str(options.memory),
        "Gpus": str(options.n_gpus),
        "Retries": str(options.retries),
        "Timeout": str(options.timeout or 0),
        "Bucket": bucket,
        "LogGroupName": log_group_name(options.name),
        "JobRole": pars.job_role,
        "ExecutionRole": pars.execution_role,
        "JobQueueName": options.job_queue_name,
        "Priority": str(options.priority),
        "ComputeEnvironmentName": options.compute_environment_name,
        "ServiceRole": pars.batch_service_role,
        "InstanceProfile": pars.ecs_instance_profile,
        "Subnets": ",".join(pars.subnets),
        "SecurityGroup": pars.security_group,
        "Fargate": options.fargate,
        "Architecture": ARCHITECTURES[platform or options.platform],
        "InstanceTypes": ",".join(options.instance_types),
        "MinVcpus": str(options.min_vcpus),
        "DesiredVcpus": str(options.desired_vcpus) if options.desired_given else "",
        "MaxVcpus": str(options.max_vcpus),
        "BidPercentage": "" if options.bid_percentage is None else str(options.bid_percentage),
        "VolumeSize": str(options.volume_size or 0),
        "DiskTemplate": "no" if options.fargate else "yes",
        "ImageId": options.image_id or "",
        "KeyPair": options.ec2_key_pair or "",
    }


def deploy_knot(plan: KnotPlan, made: Prerequisites) -> KnotResources:
    """Make, adopt or bring up to date the resources of a knot. When nothing changed, this only reads, once.

    What an existing knot is brought up to date in is said in one line, as a warning of the logger ``cloudknot``.

    Raises
    ------
    CloudknotInputError
        AWS cannot change the knot in this way. It is as it was.
    CannotCreateResourceException
    """
    options, known = plan.options, plan.known
    parameters = wanted_parameters(
        options,
        made.pars,
        made.image_uri,
        plan.cloud.bucket,
        platform=plan.image.platform,
        environment=plan.image.environment_tag,
    )
    if parameters["BidPercentage"] and not known.get("BidPercentage"):
        linked_role(plan.cloud, SPOT)
    state, revisions = _deployed(plan, parameters)
    parameters["Bucket"] = state.parameters["Bucket"]
    revision, differing = _revision(plan.cloud, parameters, revisions, state.tags)
    if known:
        _tell(options, [*differing, *diff.of_stack(known, parameters, plan.template.digest)], state)
    return _resources(state, revision, options.retries, plan.cloud)


def _deployed(plan: KnotPlan, parameters: Mapping[str, str]) -> tuple[StackState, list[JobDefinitionTypeDef]]:
    """Return the stack as it is wanted, and the active revisions of its job definition."""
    stack = Stack(plan.cloud, plan.name)
    wanted = partial(_for_state, plan.options, parameters, plan.cloud.chosen_bucket)
    before = plan.state if plan.is_fresh() else stack.state()
    state = stack.deploy_from(before, plan.template, wanted, free=FREE)
    revisions = active_revisions(plan.cloud, parameters["JobDefinitionName"])
    if state is plan.state and not revisions:
        # Another session has removed the knot since the plan was made: a stack has a revision.
        state = stack.deploy(plan.template, wanted, free=FREE)
        revisions = active_revisions(plan.cloud, parameters["JobDefinitionName"])
    return state, revisions


def _for_state(
    options: KnotOptions, parameters: Mapping[str, str], chosen_bucket: str | None, state: StackState | None
) -> Mapping[str, str]:
    """The parameters for the stack as it is now, which another session may have made meanwhile."""
    if state is None:
        return parameters
    if not chosen_bucket:
        parameters = {**parameters, "Bucket": state.parameters.get("Bucket") or parameters["Bucket"]}
    diff.check_in_place(options, state.parameters, parameters)
    # The number of vCPUs is Batch's own by now, and it refuses to be told less. A launch template for disks that had
    # none would exchange the machines under running jobs.
    kept = "yes" if options.volume_size else state.parameters.get("DiskTemplate", "no")
    return {**parameters, "DesiredVcpus": "", "DiskTemplate": kept}


def _tell(options: KnotOptions, differing: list[str], state: StackState) -> None:
    if differing:
        _log.warning(
            "The knot %r is brought up to date: %s. Maps that run keep what they began with.",
            options.name,
            "; ".join(dict.fromkeys(differing)),
        )
    if kept := diff.of_tags(options, state.tags):
        _log.warning(
            "The knot %r keeps its tags, because Batch cannot change those of what exists; not set: %s. "
            "To have them, clobber the knot and make it anew; results stay.",
            options.name,
            ", ".join(kept),
        )


def find_knot(cloud: Cloud, name: str) -> KnotResources:
    """The resources of a knot that exists, found by its name alone; reads twice.

    Raises
    ------
    ResourceDoesNotExistException
        There is no knot of that name, or it is not ready.
    """
    state = Stack(cloud, stack_name(name)).state()
    newest = active_revisions(cloud, state.parameters["JobDefinitionName"])[:1] if state and state.usable else []
    if state is None or not newest:
        raise ResourceDoesNotExistException(
            f"There is no knot {name!r} in {cloud.region}. Give a function to make it: Knot(name={name!r}, func=...).",
            operation="cloudformation:DescribeStacks",
        )
    return _resources(state, newest[0], retries_of(newest[0]), cloud)


def delete_knot(cloud: Cloud, name: str) -> None:
    """Delete a knot's resources, and every revision of its job definition; without any there is nothing to do.

    Raises
    ------
    CannotDeleteResourceException
        The message says what stayed and why.
    """
    stack = Stack(cloud, stack_name(name))
    revisions = revisions_of(cloud, name, stack.state())
    stack.delete()
    for revision in revisions:
        clients.batch(cloud).deregister_job_definition(jobDefinition=revision["jobDefinitionArn"])


def revisions_of(cloud: Cloud, name: str, state: StackState | None) -> list[JobDefinitionTypeDef]:
    """Every active revision of a knot's job definition; ``state`` of its stack is None when that is gone already."""
    named = state.parameters.get("JobDefinitionName") if state else None
    return [
        definition
        for definition in job_definitions(cloud)
        if definition["jobDefinitionName"] == named or is_of(definition, stack_name(name))
    ]


def _revision(
    cloud: Cloud,
    parameters: Mapping[str, str],
    revisions: Sequence[JobDefinitionTypeDef],
    tags: Mapping[str, str],
) -> tuple[JobDefinitionTypeDef, list[str]]:
    """The newest revision and no difference, if it is what is wanted; else a newly registered one, and what differs.

    An older revision that would do is not used again: the newest is the one that others find by the knot's name.
    """
    wanted = job_definition(parameters, cloud.region)
    newest = revisions[0] if revisions else None
    differing = diff.of_job(facts(newest), facts(cast("JobDefinitionTypeDef", wanted))) if newest else []
    if newest and not differing:
        return newest, []
    request: RegisterJobDefinitionRequestTypeDef = {**wanted, "tags": tags}
    registered = clients.batch(cloud).register_job_definition(**request)
    return cast("JobDefinitionTypeDef", {**wanted, **registered}), differing


def _resources(state: StackState, revision: JobDefinitionTypeDef, retries: int, cloud: Cloud) -> KnotResources:
    parameters = state.parameters
    return KnotResources(
        stack_id=state.stack_id,
        job_definition_name=parameters["JobDefinitionName"],
        job_definition_arn=revision["jobDefinitionArn"],
        job_queue_name=parameters["JobQueueName"],
        job_queue_arn=state.outputs["JobQueue"],
        compute_environment_name=parameters["ComputeEnvironmentName"],
        compute_environment_arn=state.outputs["ComputeEnvironment"],
        image_uri=revision["containerProperties"]["image"],
        retries=retries,
        max_vcpus=int(parameters["MaxVcpus"]),
        pars_name=parameters["ParsName"],
        tags=without_own(state.tags),
        bucket=parameters.get("Bucket") or cloud.bucket,
        fargate=fargate_size(revision),
        vcpus=vcpus_of(revision),
        timeout=timeout_of(revision),
    )
