"""The job definition as Batch's API takes and gives it: the counterpart of the one in the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cloudknot.worker.wire.container import TRY_AGAIN

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

ATTEMPTS = 10
"""The most that Batch takes (Batch API reference, RetryStrategy), of which the worker lets the user's own be fewer."""
RETRY_RULES = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onStatusReason": "Your Spot Task was interrupted*", "action": "RETRY"},
    {"onReason": "CannotPullContainer*", "action": "RETRY"},
    {"onExitCode": str(TRY_AGAIN), "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
)
"""Which attempts are followed by another: 5 rules, the most that Batch takes, the last of which matches all."""


def job_definition(parameters: Mapping[str, str], region: str) -> dict[str, Any]:
    """The job definition that the template makes of ``parameters``, as RegisterJobDefinition takes it."""
    amounts = {"VCPU": parameters["Vcpus"], "MEMORY": parameters["Memory"], "GPU": parameters["Gpus"]}
    timeout = int(parameters["Timeout"])
    return {
        "jobDefinitionName": parameters["JobDefinitionName"],
        "type": "container",
        "platformCapabilities": ["FARGATE" if parameters["Fargate"] else "EC2"],
        "propagateTags": True,
        "parameters": {
            "retries": parameters["Retries"],
            "environment": parameters["Environment"],
            "bucket": parameters["Bucket"],
        },
        "containerProperties": {
            "image": parameters["Image"],
            "jobRoleArn": parameters["JobRole"],
            "executionRoleArn": parameters["ExecutionRole"],
            "resourceRequirements": [{"type": kind, "value": n} for kind, n in amounts.items() if n != "0"],
            "environment": [{"name": "AWS_DEFAULT_REGION", "value": region}],
            "linuxParameters": {"initProcessEnabled": True},
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": parameters["LogGroupName"]}},
            **(_fargate(parameters["Architecture"]) if parameters["Fargate"] else {}),
        },
        "retryStrategy": {"attempts": ATTEMPTS, "evaluateOnExit": [dict(rule) for rule in RETRY_RULES]},
        **({"timeout": {"attemptDurationSeconds": timeout}} if timeout else {}),
    }


def _fargate(architecture: str) -> dict[str, Any]:
    return {
        "runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": architecture},
        "fargatePlatformConfiguration": {"platformVersion": "LATEST"},
        "networkConfiguration": {"assignPublicIp": "ENABLED"},
    }


def facts(definition: Mapping[str, Any]) -> dict[str, object]:
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


def _rest(definition: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[object, ...]:
    retry = definition.get("retryStrategy") or {}
    return (
        sorted((item["name"], item["value"]) for item in container.get("environment", ())),
        (container.get("logConfiguration") or {}).get("options"),
        (container.get("networkConfiguration") or {}).get("assignPublicIp"),
        (container.get("runtimePlatform") or {}).get("cpuArchitecture"),
        str(retry.get("attempts")),
        [{key: str(value).upper() for key, value in rule.items()} for rule in retry.get("evaluateOnExit", ())],
    )


def fargate_size(definition: Mapping[str, Any]) -> tuple[int, int] | None:
    """vCPUs and MiB of a job on Fargate; None on EC2 instances."""
    container = definition["containerProperties"]
    if not (container.get("networkConfiguration") or {}).get("assignPublicIp"):
        return None
    given = {item["type"]: int(float(item["value"])) for item in container["resourceRequirements"]}
    return given["VCPU"], given["MEMORY"]


def vcpus_of(definition: Mapping[str, Any]) -> float:
    """The vCPUs of a job."""
    given = definition["containerProperties"].get("resourceRequirements", ())
    return next((float(item["value"]) for item in given if item["type"] == "VCPU"), 1.0)


def timeout_of(definition: Mapping[str, Any]) -> int | None:
    """Seconds that an attempt may take; None when there is no limit."""
    seconds: int | None = (definition.get("timeout") or {}).get("attemptDurationSeconds")
    return seconds


def retries_of(definition: Mapping[str, Any]) -> int:
    """The attempts that the user's function has."""
    return int((definition.get("parameters") or {}).get("retries", 1))


def bucket_of(definition: Mapping[str, Any]) -> str:
    """The bucket of the inputs and results of its jobs; empty where an earlier version of cloudknot registered it."""
    return str((definition.get("parameters") or {}).get("bucket", ""))


def buckets_named(definitions: Iterable[Mapping[str, Any]]) -> list[str]:
    """The buckets of some revisions, each once."""
    return list(dict.fromkeys(filter(None, map(bucket_of, definitions))))


def active_revisions(cloud: Cloud, name: str) -> list[Mapping[str, Any]]:
    """The revisions of a job definition that can be submitted, newest first."""
    pages = cloud.pages("batch", "describe_job_definitions", jobDefinitionName=name, status="ACTIVE")
    found = [item for page in pages for item in page["jobDefinitions"]]
    return sorted(found, key=lambda item: int(item["revision"]), reverse=True)
