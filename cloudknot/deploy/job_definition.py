"""The job definition of a knot: one mapping for both the CloudFormation template and RegisterJobDefinition.

`DEFINITION` refers to the parameters of the stack. The template has the same for CloudFormation, which registers the
first revision; a test compares both. `job_definition` fills it in for RegisterJobDefinition, which
registers later ones. The other functions read existing revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from cloudknot.aws import clients
from cloudknot.worker.wire.container import TRY_AGAIN

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import (
        ContainerPropertiesOutputTypeDef,
        JobDefinitionTypeDef,
        NetworkConfigurationTypeDef,
        RegisterJobDefinitionRequestTypeDef,
        RetryStrategyOutputTypeDef,
        RuntimePlatformTypeDef,
    )

    from cloudknot.aws.cloud import Cloud

ATTEMPTS = 10
"""Attempts of every job, the maximum of Batch (Batch API reference, RetryStrategy)."""
# A registry without the image stays without it, so nine further attempts would cost time and money. Any other failed
# pull may pass. Patterns match beginnings, without parentheses (Batch API reference, EvaluateOnExit). Docker's daemon
# names its reason first. Fargate tries a network that does not answer five times, and ends at the first answer that
# the image is missing or forbidden. Sources: Amazon ECS developer guide, "CannotPullContainer task errors";
# github.com/aws/containers-roadmap, issue 2687.
NO_IMAGE = "CannotPullContainerError: Error response from daemon: manifest for*"
"""The reason for a missing image on EC2 machines."""
NO_IMAGE_ON_FARGATE = "CannotPullContainerError: pull image manifest has been retried 1 time*"
"""The reason for a missing image on Fargate."""
# SIGKILL of the worker's first process leaves no trace that the worker could count. A job with a single attempt must
# end then, and a job with several must not, so the latter gets these rules when it is submitted.
RULES_FOR_SEVERAL = (
    {"onExitCode": str(TRY_AGAIN), "action": "RETRY"},
    # A container without memory would run out of it again. The worker counts a function that runs out of memory.
    {"onReason": "OutOfMemory*", "action": "EXIT"},
    {"onExitCode": "137", "action": "RETRY"},
    {"onStatusReason": "Essential container*", "action": "EXIT"},
    # On EC2 machines, which run and are paid meanwhile. A sixth rule, for Fargate, would be one too many for Batch.
    {"onReason": NO_IMAGE, "action": "EXIT"},
    # Without a matching rule, Batch makes another attempt: after a lost host, lost Spot capacity, a failed pull or a
    # failed start of the container.
)
"""Rules for a job whose function may fail several times."""


@dataclass(frozen=True)
class Ref:
    """The value of a stack parameter, of another CloudFormation name such as ``AWS::Region``, or of an attribute.

    An attribute of a resource has a dot, such as ``JobRole.Arn``.
    """

    name: str
    number: bool = False
    """Whether Batch's API expects a number."""


@dataclass(frozen=True)
class If:
    """A value that depends on one of `CONDITIONS`."""

    condition: str
    value: Value
    otherwise: Value = None


class BucketName(NamedTuple):
    """The name of a bucket, and the account that owns it. Empty stands for the account of the knot."""

    name: str
    owner: str = ""


Value = str | int | bool | None | Ref | If | Sequence["Value"] | Mapping[str, "Value"]
CONDITIONS = {
    "IsFargate": ("Fargate", ""),
    "HasGpus": ("Gpus", "0"),
    "HasTimeout": ("Timeout", "0"),
    "HasOwner": ("BucketOwner", ""),
    "HasPackages": ("Packages", ""),
}
"""Conditions of the template. Each is false for one value of a parameter."""
# Batch counts all attempts of a job together, and its rules cannot count. But a lost host, a reclaimed Spot machine or
# a failed pull must not use up the user's retries. So the worker counts failures of the function, and requests another
# attempt by its exit code.
RETRY_RULES: Sequence[Mapping[str, Value]] = (
    {"onExitCode": str(TRY_AGAIN), "action": "RETRY"},
    {"onStatusReason": "Essential container*", "action": "EXIT"},
    {"onReason": If("IsFargate", NO_IMAGE_ON_FARGATE, NO_IMAGE), "action": "EXIT"},
    {"onReason": "CannotStart*", "action": "EXIT"},
    {"onReason": If("IsFargate", "ResourceInitialization*", "CannotCreate*"), "action": "EXIT"},
    # Without a matching rule, Batch makes another attempt: after a lost host, lost Spot capacity or a failed pull.
)
"""Rules for further attempts: five, the maximum of Batch."""
FREE_KEYS = ("parameters", "options")
"""Mappings with free keys, which CloudFormation does not capitalise as it does API names."""


def _requirement(kind: str, parameter: str) -> Mapping[str, Value]:
    return {"type": kind, "value": Ref(parameter)}


_VCPUS_AND_MEMORY = (_requirement("VCPU", "Vcpus"), _requirement("MEMORY", "Memory"))

# The definition is part of the template although cloudknot registers later revisions itself. If it left the template,
# CloudFormation would deregister the first revision of existing knots, and a retry needs the revision of its map. A
# move to another bucket needs it, too: an update must change a resource, and only the job definition has the bucket.
DEFINITION: Mapping[str, Value] = {
    "jobDefinitionName": Ref("JobDefinitionName"),
    "type": "container",
    "platformCapabilities": [If("IsFargate", "FARGATE", "EC2")],
    "propagateTags": True,
    "parameters": {
        "retries": Ref("Retries"),
        "environment": Ref("Environment"),
        "packages": If("HasPackages", Ref("Packages")),
        "bucket": Ref("Bucket"),
        "bucketOwner": If("HasOwner", Ref("BucketOwner")),
    },
    "containerProperties": {
        "image": Ref("Image"),
        "jobRoleArn": Ref("JobRole.Arn"),
        "executionRoleArn": Ref("ExecutionRole"),
        "resourceRequirements": If("HasGpus", (*_VCPUS_AND_MEMORY, _requirement("GPU", "Gpus")), _VCPUS_AND_MEMORY),
        "environment": [{"name": "AWS_DEFAULT_REGION", "value": Ref("AWS::Region")}],
        "linuxParameters": {"initProcessEnabled": True},
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": Ref("LogGroup")}},
        "runtimePlatform": If("IsFargate", {"operatingSystemFamily": "LINUX", "cpuArchitecture": Ref("Architecture")}),
        "fargatePlatformConfiguration": If("IsFargate", {"platformVersion": "LATEST"}),
        # Without a NAT gateway, a job needs a public address to reach the image registry.
        "networkConfiguration": If("IsFargate", {"assignPublicIp": "ENABLED"}),
    },
    "retryStrategy": {"attempts": ATTEMPTS, "evaluateOnExit": RETRY_RULES},
    "timeout": If("HasTimeout", {"attemptDurationSeconds": Ref("Timeout", number=True)}),
}


def job_definition(parameters: Mapping[str, str], region: str) -> RegisterJobDefinitionRequestTypeDef:
    """Return the request for RegisterJobDefinition, for a stack with these parameters and ``JobRole.Arn``."""
    names = {**parameters, "AWS::Region": region, "LogGroup": parameters["LogGroupName"]}
    return cast("RegisterJobDefinitionRequestTypeDef", _filled(DEFINITION, names))


def _filled(value: Value, names: Mapping[str, str]) -> object:
    """Return a part of the definition with all references and conditions resolved."""
    if isinstance(value, Ref):
        return int(names[value.name]) if value.number else names[value.name]
    if isinstance(value, If):
        parameter, empty = CONDITIONS[value.condition]
        return _filled(value.otherwise if names[parameter] == empty else value.value, names)
    if isinstance(value, Mapping):
        items = {key: _filled(part, names) for key, part in value.items()}
        return {key: item for key, item in items.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item for item in (_filled(part, names) for part in value) if item is not None]
    return value


OF_PARAMETERS = ("image", "jobRoleArn", "executionRoleArn", "resourceRequirements")
"""Properties of the container that parameters of the stack determine."""
OF_TEMPLATE = ("propagateTags", "retryStrategy", "schedulingPriority")
"""Properties of a job definition that no parameter determines."""


def with_own_parts(
    wanted: RegisterJobDefinitionRequestTypeDef, existing: JobDefinitionTypeDef
) -> RegisterJobDefinitionRequestTypeDef:
    """Return a request with the parts that a template of the user's own has given to an existing revision.

    These are all properties that no parameter of the stack determines, for example volumes and environment variables.
    """
    # CloudFormation registers the first revision of an edited template, so nobody has to evaluate it here.
    container = {
        name: value for name, value in existing["containerProperties"].items() if name not in ("vcpus", "memory")
    }
    own = {name: value for name, value in wanted["containerProperties"].items() if name in OF_PARAMETERS}
    known = cast("Mapping[str, Value]", DEFINITION["parameters"])
    others = {name: value for name, value in (existing.get("parameters") or {}).items() if name not in known}
    merged = {
        **wanted,
        **{name: value for name, value in existing.items() if name in OF_TEMPLATE},
        "parameters": {**others, **wanted["parameters"]},
        "containerProperties": {**container, **own},
    }
    return cast("RegisterJobDefinitionRequestTypeDef", merged)


def facts(definition: JobDefinitionTypeDef) -> dict[str, object]:
    """Return the properties that decide what a revision runs and how, by the name of the option behind each.

    Two revisions with equal facts run the same program in the same way.
    """
    container = definition["containerProperties"]
    requirements = {item["type"]: str(item["value"]) for item in container["resourceRequirements"]}
    parameters = definition.get("parameters") or {}
    return {
        "environment": parameters.get("environment"),
        "image": container["image"],
        "job_def_vcpus": requirements.get("VCPU"),
        "memory": requirements.get("MEMORY"),
        "n_gpus": requirements.get("GPU", "0"),
        "retries": str(retries_of(definition)),
        "timeout": str(timeout_of(definition) or "none"),
        "bucket": bucket_of(definition).name,
        "bucket_owner": bucket_of(definition).owner,
        "roles": (container.get("jobRoleArn"), container.get("executionRoleArn")),
        "rest": _rest(definition, container),
    }


def _rest(definition: JobDefinitionTypeDef, container: ContainerPropertiesOutputTypeDef) -> tuple[object, ...]:
    """Return the properties that come from this module or the stack, and from no option of the user."""
    retry: RetryStrategyOutputTypeDef = definition.get("retryStrategy") or {}
    logs = container.get("logConfiguration")
    network: NetworkConfigurationTypeDef = container.get("networkConfiguration") or {}
    runtime: RuntimePlatformTypeDef = container.get("runtimePlatform") or {}
    return (
        sorted((item["name"], item["value"]) for item in container.get("environment", ())),
        logs.get("options") if logs else None,
        network.get("assignPublicIp"),
        runtime.get("cpuArchitecture"),
        str(retry.get("attempts")),
        # Actions are not case-sensitive (Batch API reference, EvaluateOnExit).
        [{key: str(value).upper() for key, value in rule.items()} for rule in retry.get("evaluateOnExit", ())],
    )


def fargate_size(definition: JobDefinitionTypeDef) -> tuple[int, int] | None:
    """Return the vCPUs and MiB of a job on Fargate; None on EC2 instances."""
    container = definition["containerProperties"]
    # Only Fargate jobs have a network configuration: see `DEFINITION`.
    if not (container.get("networkConfiguration") or {}).get("assignPublicIp"):
        return None
    requirements = {item["type"]: int(float(item["value"])) for item in container["resourceRequirements"]}
    return requirements["VCPU"], requirements["MEMORY"]


def vcpus_of(definition: JobDefinitionTypeDef) -> float:
    """Return the vCPUs of a job."""
    requirements = definition["containerProperties"].get("resourceRequirements", ())
    return next((float(item["value"]) for item in requirements if item["type"] == "VCPU"), 1.0)


def memory_of(definition: JobDefinitionTypeDef) -> int:
    """Return the MiB of a job; 0 if the definition has none."""
    requirements = definition["containerProperties"].get("resourceRequirements", ())
    return next((int(item["value"]) for item in requirements if item["type"] == "MEMORY"), 0)


def image_of(definition: JobDefinitionTypeDef) -> str:
    """Return the address of the image of a job."""
    return definition["containerProperties"]["image"]


def timeout_of(definition: JobDefinitionTypeDef) -> int | None:
    """Return the timeout of an attempt in seconds, or None."""
    seconds: int | None = (definition.get("timeout") or {}).get("attemptDurationSeconds")
    return seconds


def retries_of(definition: JobDefinitionTypeDef) -> int:
    """Return the number of attempts for the user's function."""
    return int((definition.get("parameters") or {}).get("retries", 1))


def packages_of(definition: JobDefinitionTypeDef) -> str:
    """Return the packages of the image, as `ImagePackages.to_text` writes them; empty if they are not known."""
    return str((definition.get("parameters") or {}).get("packages", ""))


def bucket_of(definition: JobDefinitionTypeDef) -> BucketName:
    """Return the bucket for inputs and results; empty in a revision from an earlier version of cloudknot."""
    parameters = definition.get("parameters") or {}
    return BucketName(str(parameters.get("bucket", "")), str(parameters.get("bucketOwner", "")))


def buckets_named(definitions: Iterable[JobDefinitionTypeDef]) -> list[BucketName]:
    """Return the distinct buckets of several revisions, in order."""
    return list(dict.fromkeys(bucket for bucket in map(bucket_of, definitions) if bucket.name))


def revision_of(cloud: Cloud, arn: str) -> JobDefinitionTypeDef | None:
    """Return one revision by its ARN, or None if nobody knows it any longer."""
    found = clients.batch(cloud).describe_job_definitions(jobDefinitions=[arn])["jobDefinitions"]
    return found[0] if found else None


def active_revisions(cloud: Cloud, name: str) -> list[JobDefinitionTypeDef]:
    """Return the revisions of a job definition that can be submitted, newest first."""
    paginator = clients.batch(cloud).get_paginator("describe_job_definitions")
    pages = paginator.paginate(jobDefinitionName=name, status="ACTIVE")
    revisions = [revision for page in pages for revision in page["jobDefinitions"]]
    return sorted(revisions, key=lambda revision: int(revision["revision"]), reverse=True)
