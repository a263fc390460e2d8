"""The knot's own resources: job definition, job queue and compute environment.

Queue and compute environment change with the stack. What a job runs (image, vCPUs, memory, attempts, timeout, roles)
changes by registering another revision of the job definition, which takes a second where a stack takes minutes; maps
that are running keep the revision they began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudknot import template
from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.options import KnotOptions
from cloudknot.stack import Stack, StackState

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.pars import Pars

FREE = ("Image", "Vcpus", "Memory", "Retries", "Timeout")
"""Parameters that only the job definition has."""


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


def stack_name(name: str) -> str:
    """Name of a knot's stack."""
    return f"{name}-cloudknot"


def deploy_knot(cloud: Cloud, options: KnotOptions, pars: Pars, image_uri: str) -> KnotResources:
    """Make, adopt or bring up to date the resources of a knot. When nothing changed, this only reads, twice.

    Raises
    ------
    CannotCreateResourceException
    """
    parameters = wanted_parameters(options, pars, image_uri)
    state = Stack(cloud, stack_name(options.name)).deploy(
        template.load("knot"), parameters, options.aws_resource_tags, free=FREE
    )
    return _resources(state, _revision(cloud, parameters, state.tags), options.retries)


def find_knot(cloud: Cloud, name: str) -> KnotResources:
    """The resources of a knot that exists, found by its name alone; reads twice.

    Raises
    ------
    ResourceDoesNotExistException
        There is no knot of that name, or it is not ready.
    """
    state = Stack(cloud, stack_name(name)).state()
    newest = _active_revisions(cloud, state.parameters["JobDefinitionName"])[:1] if state and state.usable else []
    if state is None or not newest:
        raise ResourceDoesNotExistException(
            f"There is no knot {name!r} in {cloud.region}. Give a function to make it: Knot(name={name!r}, func=...).",
            operation="cloudformation:DescribeStacks",
        )
    return _resources(state, newest[0], _retries(newest[0]))


def delete_knot(cloud: Cloud, name: str) -> None:
    """Delete a knot's resources, and every revision of its job definition; without any there is nothing to do.

    Raises
    ------
    CannotDeleteResourceException
        The message says what stayed and why.
    """
    stack = Stack(cloud, stack_name(name))
    state = stack.state()
    stack.delete()
    if state is not None and (definition := state.parameters.get("JobDefinitionName")):
        for revision in _active_revisions(cloud, definition):
            cloud.call("batch", "deregister_job_definition", jobDefinition=revision["jobDefinitionArn"])


def wanted_parameters(options: KnotOptions, pars: Pars, image_uri: str) -> dict[str, str]:
    """The parameters of a knot's stack."""
    return {
        "ParsName": pars.name,
        "JobDefinitionName": options.job_definition_name,
        "Image": image_uri,
        "Vcpus": str(options.job_def_vcpus),
        "Memory": str(options.memory),
        "Gpus": str(options.n_gpus),
        "Retries": str(options.retries),
        "Timeout": str(options.timeout or 0),
        "JobRole": pars.job_role,
        "ExecutionRole": pars.execution_role,
        "JobQueueName": options.job_queue_name,
        "Priority": str(options.priority),
        "ComputeEnvironmentName": options.compute_environment_name,
        "ServiceRole": pars.batch_service_role,
        "InstanceProfile": pars.ecs_instance_profile,
        "Subnets": ",".join(pars.subnets),
        "SecurityGroup": pars.security_group,
        "InstanceTypes": ",".join(options.instance_types),
        "MinVcpus": str(options.min_vcpus),
        "DesiredVcpus": str(options.desired_vcpus),
        "MaxVcpus": str(options.max_vcpus),
        "BidPercentage": "" if options.bid_percentage is None else str(options.bid_percentage),
        "VolumeSize": str(options.volume_size or 0),
        "ImageId": options.image_id or "",
        "KeyPair": options.ec2_key_pair or "",
    }


def job_definition(parameters: Mapping[str, str], region: str) -> dict[str, Any]:
    """The job definition that the template makes of ``parameters``, as RegisterJobDefinition takes it."""
    amounts = {"VCPU": parameters["Vcpus"], "MEMORY": parameters["Memory"], "GPU": parameters["Gpus"]}
    timeout = int(parameters["Timeout"])
    return {
        "jobDefinitionName": parameters["JobDefinitionName"],
        "type": "container",
        "platformCapabilities": ["EC2"],
        "propagateTags": True,
        "containerProperties": {
            "image": parameters["Image"],
            "jobRoleArn": parameters["JobRole"],
            "executionRoleArn": parameters["ExecutionRole"],
            "resourceRequirements": [{"type": kind, "value": n} for kind, n in amounts.items() if n != "0"],
            "environment": [{"name": "AWS_DEFAULT_REGION", "value": region}],
            "linuxParameters": {"initProcessEnabled": True},
        },
        "retryStrategy": retry_strategy(int(parameters["Retries"])),
        **({"timeout": {"attemptDurationSeconds": timeout}} if timeout else {}),
    }


def retry_strategy(retries: int) -> dict[str, Any]:
    """The strategy that gives the user's function ``retries`` attempts, as Batch takes it."""
    once = retries == 1
    rules = [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onReason": "CannotPullContainerError*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT" if once else "RETRY"},
    ]
    return {"attempts": 10 if once else retries, "evaluateOnExit": rules}


def _revision(cloud: Cloud, parameters: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, Any]:
    """The newest revision that is what is wanted; another one is registered when there is none."""
    wanted = job_definition(parameters, cloud.region)
    for revision in _active_revisions(cloud, parameters["JobDefinitionName"]):
        if _essence(revision) == _essence(wanted):
            return revision
    return {**wanted, **cloud.call("batch", "register_job_definition", **wanted, tags=dict(tags))}


def _active_revisions(cloud: Cloud, name: str) -> list[Mapping[str, Any]]:
    """The revisions of a job definition that can be submitted, newest first."""
    pages = cloud.pages("batch", "describe_job_definitions", jobDefinitionName=name, status="ACTIVE")
    found = [item for page in pages for item in page["jobDefinitions"]]
    return sorted(found, key=lambda item: int(item["revision"]), reverse=True)


def _essence(definition: Mapping[str, Any]) -> tuple[object, ...]:
    """What two revisions must have in common to run the same thing in the same way."""
    container, retry = definition["containerProperties"], definition.get("retryStrategy", {})
    return (
        container["image"],
        container.get("jobRoleArn"),
        container.get("executionRoleArn"),
        sorted((item["type"], str(item["value"])) for item in container["resourceRequirements"]),
        sorted((item["name"], item["value"]) for item in container.get("environment", ())),
        retry.get("attempts"),
        [{key: value.upper() for key, value in rule.items()} for rule in retry.get("evaluateOnExit", ())],
        definition.get("timeout", {}).get("attemptDurationSeconds"),
    )


def _retries(definition: Mapping[str, Any]) -> int:
    """The attempts that the user's function has: one, when the last rule ends the job."""
    retry = definition.get("retryStrategy", {})
    last: Mapping[str, str] = next(reversed(retry.get("evaluateOnExit", [])), {})
    return 1 if last.get("action", "").upper() == "EXIT" else int(retry.get("attempts", 1))


def _resources(state: StackState, revision: Mapping[str, Any], retries: int) -> KnotResources:
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
        tags=state.tags,
    )
