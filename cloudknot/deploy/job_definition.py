"""The job definition: one mapping that is both the resource in a knot's template and the request to Batch.

`DEFINITION` names the parameters of the stack. `template_parts` writes it for CloudFormation, which makes the first
revision. `job_definition` fills it in for RegisterJobDefinition, which makes the later ones. The other functions read
existing revisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

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
"""The most that Batch takes (Batch API reference, RetryStrategy), of which the worker lets the user's own be fewer."""
# Batch counts all attempts together. A lost host, a reclaimed Spot machine and a failed pull use up none of the user's
# own attempts: the worker counts those, and asks for another one by its exit code.
RETRY_RULES = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onStatusReason": "Your Spot Task was interrupted*", "action": "RETRY"},
    {"onReason": "CannotPullContainer*", "action": "RETRY"},
    {"onExitCode": str(TRY_AGAIN), "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
)
"""Which attempts are followed by another: 5 rules, the most that Batch takes, the last of which matches all."""


@dataclass(frozen=True)
class Ref:
    """The value of a parameter of the stack, or of another name that CloudFormation knows."""

    name: str
    number: bool = False
    """Whether Batch's API takes it as a number."""


@dataclass(frozen=True)
class If:
    """A value that is there only under one of `CONDITIONS`."""

    condition: str
    value: Value
    otherwise: Value = None


Value = str | int | bool | None | Ref | If | Sequence["Value"] | Mapping[str, "Value"]
CONDITIONS = {"IsFargate": ("Fargate", ""), "HasGpus": ("Gpus", "0"), "HasTimeout": ("Timeout", "0")}
"""Conditions of the template: each holds unless its parameter has this value."""
AS_GIVEN = ("parameters", "options")
"""Mappings whose keys are no names of the API, so that CloudFormation has them as they are, too."""


def _amount(kind: str, parameter: str) -> Mapping[str, Value]:
    return {"type": kind, "value": Ref(parameter)}


_USUAL = (_amount("VCPU", "Vcpus"), _amount("MEMORY", "Memory"))

DEFINITION: Mapping[str, Value] = {
    "jobDefinitionName": Ref("JobDefinitionName"),
    "type": "container",
    "platformCapabilities": [If("IsFargate", "FARGATE", "EC2")],
    "propagateTags": True,
    "parameters": {"retries": Ref("Retries"), "environment": Ref("Environment"), "bucket": Ref("Bucket")},
    "containerProperties": {
        "image": Ref("Image"),
        "jobRoleArn": Ref("JobRole"),
        "executionRoleArn": Ref("ExecutionRole"),
        "resourceRequirements": If("HasGpus", (*_USUAL, _amount("GPU", "Gpus")), _USUAL),
        "environment": [{"name": "AWS_DEFAULT_REGION", "value": Ref("AWS::Region")}],
        "linuxParameters": {"initProcessEnabled": True},
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": Ref("LogGroup")}},
        "runtimePlatform": If("IsFargate", {"operatingSystemFamily": "LINUX", "cpuArchitecture": Ref("Architecture")}),
        "fargatePlatformConfiguration": If("IsFargate", {"platformVersion": "LATEST"}),
        # Without a NAT gateway, a public address is the way to the image's registry.
        "networkConfiguration": If("IsFargate", {"assignPublicIp": "ENABLED"}),
    },
    "retryStrategy": {"attempts": ATTEMPTS, "evaluateOnExit": RETRY_RULES},
    "timeout": If("HasTimeout", {"attemptDurationSeconds": Ref("Timeout", number=True)}),
}


def job_definition(parameters: Mapping[str, str], region: str) -> RegisterJobDefinitionRequestTypeDef:
    """Return the request to RegisterJobDefinition for a stack with these parameters."""
    names = {**parameters, "AWS::Region": region, "LogGroup": parameters["LogGroupName"]}
    return cast("RegisterJobDefinitionRequestTypeDef", _filled(DEFINITION, names))


def _filled(value: Value, names: Mapping[str, str]) -> object:
    if isinstance(value, Ref):
        return int(names[value.name]) if value.number else names[value.name]
    if isinstance(value, If):
        parameter, empty = CONDITIONS[value.condition]
        return _filled(value.otherwise if names[parameter] == empty else value.value, names)
    if isinstance(value, Mapping):
        items = {key: _filled(each, names) for key, each in value.items()}
        return {key: each for key, each in items.items() if each is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [each for each in (_filled(each, names) for each in value) if each is not None]
    return value


def template_parts() -> dict[str, list[str]]:
    """Return the lines of YAML for the words JOB_DEFINITION and JOB_CONDITIONS in the template."""
    properties = {_capital(name): _resource(value, name in AS_GIVEN) for name, value in DEFINITION.items()}
    conditions = {
        name: {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, empty]}]}
        for name, (parameter, empty) in CONDITIONS.items()
    }
    return {
        "JOB_DEFINITION": [f"{name}: {json.dumps(value)}" for name, value in properties.items()],
        "JOB_CONDITIONS": [f"{name}: {json.dumps(value)}" for name, value in conditions.items()],
    }


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _resource(value: Value, as_given: bool = False) -> object:
    """Return a part of the definition as CloudFormation has it: with a capital first letter, and its own functions."""
    if isinstance(value, Ref):
        return {"Ref": value.name}
    if isinstance(value, If):
        return {"Fn::If": [value.condition, _resource(value.value), _resource(value.otherwise)]}
    if isinstance(value, Mapping):
        return {key if as_given else _capital(key): _resource(each, key in AS_GIVEN) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_resource(each) for each in value]
    return {"Ref": "AWS::NoValue"} if value is None else value


def facts(definition: JobDefinitionTypeDef) -> dict[str, object]:
    """What two revisions must have in common to run the same thing in the same way, by the choice it comes from."""
    container = definition["containerProperties"]
    given = {item["type"]: str(item["value"]) for item in container["resourceRequirements"]}
    parameters = definition.get("parameters") or {}
    return {
        "environment": parameters.get("environment"),
        "image": container["image"],
        "job_def_vcpus": given.get("VCPU"),
        "memory": given.get("MEMORY"),
        "n_gpus": given.get("GPU", "0"),
        "retries": str(retries_of(definition)),
        "timeout": str(timeout_of(definition) or "none"),
        "bucket": bucket_of(definition),
        "roles": (container.get("jobRoleArn"), container.get("executionRoleArn")),
        "rest": _rest(definition, container),
    }


def _rest(definition: JobDefinitionTypeDef, container: ContainerPropertiesOutputTypeDef) -> tuple[object, ...]:
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
        [{key: str(value).upper() for key, value in rule.items()} for rule in retry.get("evaluateOnExit", ())],
    )


def fargate_size(definition: JobDefinitionTypeDef) -> tuple[int, int] | None:
    """vCPUs and MiB of a job on Fargate; None on EC2 instances."""
    container = definition["containerProperties"]
    if not (container.get("networkConfiguration") or {}).get("assignPublicIp"):
        return None
    given = {item["type"]: int(float(item["value"])) for item in container["resourceRequirements"]}
    return given["VCPU"], given["MEMORY"]


def vcpus_of(definition: JobDefinitionTypeDef) -> float:
    """The vCPUs of a job."""
    given = definition["containerProperties"].get("resourceRequirements", ())
    return next((float(item["value"]) for item in given if item["type"] == "VCPU"), 1.0)


def timeout_of(definition: JobDefinitionTypeDef) -> int | None:
    """Seconds that an attempt may take; None when there is no limit."""
    seconds: int | None = (definition.get("timeout") or {}).get("attemptDurationSeconds")
    return seconds


def retries_of(definition: JobDefinitionTypeDef) -> int:
    """The attempts that the user's function has."""
    return int((definition.get("parameters") or {}).get("retries", 1))


def bucket_of(definition: JobDefinitionTypeDef) -> str:
    """The bucket of the inputs and results of its jobs; empty where an earlier version of cloudknot registered it."""
    return str((definition.get("parameters") or {}).get("bucket", ""))


def buckets_named(definitions: Iterable[JobDefinitionTypeDef]) -> list[str]:
    """The buckets of some revisions, each once."""
    return list(dict.fromkeys(filter(None, map(bucket_of, definitions))))


def active_revisions(cloud: Cloud, name: str) -> list[JobDefinitionTypeDef]:
    """The revisions of a job definition that can be submitted, newest first."""
    described = clients.batch(cloud).get_paginator("describe_job_definitions")
    pages = described.paginate(jobDefinitionName=name, status="ACTIVE")
    found = [item for page in pages for item in page["jobDefinitions"]]
    return sorted(found, key=lambda item: int(item["revision"]), reverse=True)
