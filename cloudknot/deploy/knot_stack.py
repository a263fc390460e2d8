"""The knot's own resources: log group, job definition, job queue and compute environment.

Queue and compute environment change with the stack. What a job runs (image, vCPUs, memory, attempts, timeout, roles)
changes by registering another revision of the job definition, which takes a second where a stack takes minutes; maps
that are running keep the revision they began with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudknot.aws.tags import with_own, without_own
from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.ec2 import platform_in
from cloudknot.deploy.iam import SPOT, linked_role
from cloudknot.deploy.inventory import KNOT, is_of, job_definitions
from cloudknot.deploy.job_definition import (
    active_revisions,
    facts,
    fargate_size,
    job_definition,
    retries_of,
    timeout_of,
    vcpus_of,
)
from cloudknot.deploy.knot_parameters import ARCHITECTURES, PLATFORMS, wanted_parameters
from cloudknot.deploy.machine_images import check_image, check_key_pair
from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.options.choices import KnotOptions

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud, PublishableImage
    from cloudknot.deploy.pars import Pars

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


def stack_name(name: str) -> str:
    """Name of a knot's stack."""
    return f"{name}{KNOT}"


class Plan(NamedTuple):
    """What is known of a knot before it is made: the platform of its image, and its bucket."""

    platform: str
    bucket: str


def plan_knot(cloud: Cloud, options: KnotOptions) -> Plan:
    """Check, before anything is made, whether a knot can be as it is wanted.

    A knot that exists keeps its bucket unless another one is chosen. Instance types that it does not have yet, or that
    are to hold larger jobs, are looked for in the region, and so are a machine image and a key pair that are new.

    Raises
    ------
    CloudknotInputError
        The region has no such instance type, image or key pair, the tags are too long, or AWS cannot change the knot
        that exists so.
    """
    template.fill_in(template.load("knot"), with_own(options.aws_resource_tags, stack_name(options.name)))
    state = Stack(cloud, stack_name(options.name)).state()
    known = state.parameters if state is not None and state.usable else {}
    if known:
        diff.check_fixed(options, known)
    platform = PLATFORMS[known["Architecture"]] if _holds(options, known) else platform_in(cloud, options)
    if options.image_id and (options.image_id, ARCHITECTURES[platform]) != (
        known.get("ImageId"),
        known.get("Architecture"),
    ):
        check_image(cloud, options.image_id, platform)
    if options.ec2_key_pair and options.ec2_key_pair != known.get("KeyPair"):
        check_key_pair(cloud, options.ec2_key_pair)
    return Plan(platform, cloud.chosen_bucket or known.get("Bucket") or cloud.bucket)


def _holds(options: KnotOptions, known: Mapping[str, str]) -> bool:
    """Whether a knot of these stack parameters has the instance types wanted, for jobs as large already."""
    sizes = {"Memory": options.memory, "Vcpus": options.job_def_vcpus, "Gpus": options.n_gpus}
    same = known.get("InstanceTypes") == ",".join(options.instance_types) and "Architecture" in known
    return same and all(size <= int(known[parameter]) for parameter, size in sizes.items())


def deploy_knot(
    cloud: Cloud,
    options: KnotOptions,
    pars: Pars,
    image_uri: str,
    image: PublishableImage | None = None,
) -> KnotResources:
    """Make, adopt or bring up to date the resources of a knot. When nothing changed, this only reads, twice.

    What a knot that exists is brought up to date in is said in one line, as a warning of the logger ``cloudknot``.

    Parameters
    ----------
    image : Image, optional
        What is at ``image_uri``: for which platform, and with which environment, which tells a new function from new
        requirements.

    Raises
    ------
    CloudknotInputError
        AWS cannot change the knot in this way. It is as it was.
    CannotCreateResourceException
    """
    name = stack_name(options.name)
    stack = Stack(cloud, name)
    before = stack.state()
    known = before.parameters if before is not None and before.usable else {}
    parameters = wanted_parameters(options, pars, image_uri, cloud.bucket, image)
    tags = with_own(options.aws_resource_tags, name)
    wanted = partial(_for_state, options, parameters, cloud.chosen_bucket)
    if parameters["BidPercentage"] and not known.get("BidPercentage"):
        linked_role(cloud, SPOT)
    state = stack.deploy(template.load("knot"), wanted, tags, free=FREE, state=before)
    parameters["Bucket"] = state.parameters["Bucket"]
    revision, differing = _revision(cloud, parameters, state.tags)
    if known:
        _tell(options, [*differing, *diff.of_stack(known, parameters)], state)
    return _resources(state, revision, options.retries, cloud)


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
        cloud.call("batch", "deregister_job_definition", jobDefinition=revision["jobDefinitionArn"])


def revisions_of(cloud: Cloud, name: str, state: StackState | None) -> list[Mapping[str, Any]]:
    """Every active revision of a knot's job definition; ``state`` of its stack is None when that is gone already."""
    named = state.parameters.get("JobDefinitionName") if state else None
    return [
        definition
        for definition in job_definitions(cloud)
        if definition["jobDefinitionName"] == named or is_of(definition, stack_name(name))
    ]


def _revision(
    cloud: Cloud, parameters: Mapping[str, str], tags: Mapping[str, str]
) -> tuple[Mapping[str, Any], list[str]]:
    """The newest revision and no difference, if it is what is wanted; else a newly registered one, and what differs.

    An older revision that would do is not used again: the newest is the one that others find by the knot's name.
    """
    wanted = job_definition(parameters, cloud.region)
    newest = active_revisions(cloud, parameters["JobDefinitionName"])[:1]
    differing = diff.of_job(facts(newest[0]), facts(wanted)) if newest else []
    if newest and not differing:
        return newest[0], []
    return {**wanted, **cloud.call("batch", "register_job_definition", **wanted, tags=dict(tags))}, differing


def _resources(state: StackState, revision: Mapping[str, Any], retries: int, cloud: Cloud) -> KnotResources:
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
