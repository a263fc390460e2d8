"""The validation of SubmitJob requests with AWS Batch's rules, and their resolution to a `JobSpec`.

The limits come from the AWS Batch user guide, "AWS Batch service quotas", and from its API reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from cloudknot.local.batch.catalog import BatchCatalog
from cloudknot.local.batch.names import check_name
from cloudknot.local.batch.records import OVERRIDES_TOO_LONG, Dependency, ExitRule, Job, JobSpec, RetryStrategy
from cloudknot.local.wsgi import ClientException

if TYPE_CHECKING:
    from types_boto3_batch import type_defs

    Container = type_defs.ContainerPropertiesOutputTypeDef | type_defs.ContainerOverridesTypeDef

Find = Callable[[str], Job | None]
MAX_PAYLOAD = 30 * 1024
"""Bytes of a SubmitJob request."""
MAX_OVERRIDES = 8192
"""Characters of its container overrides."""
MAX_DEPENDENCIES = 20
ARRAY_SIZES = range(2, 10_001)
ATTEMPTS = range(1, 11)
MAX_EXIT_RULES = 5
MIN_TIMEOUT = 60
"""Seconds of an attempt."""

_UNSUPPORTED = ("nodeOverrides", "eksPropertiesOverride", "ecsPropertiesOverride")
_RESERVED = "AWS_BATCH"
_FARGATE = ("fargatePlatformConfiguration", "networkConfiguration", "runtimePlatform")
_COPIED = ("jobRoleArn", "executionRoleArn", "user", "linuxParameters", "logConfiguration", *_FARGATE)
"""The container properties of a job definition that a job has unchanged."""


def resolve(request: type_defs.SubmitJobRequestTypeDef, catalog: BatchCatalog, find: Find) -> JobSpec:
    """Return the job for a SubmitJob request. ``find`` returns a job by its id, or None.

    Raises
    ------
    ClientException
        The request breaks a rule of AWS Batch, or needs a feature that the embedded cloud lacks.
    """
    _check_request(request)
    overrides = request.get("containerOverrides") or {}
    queue = catalog.queue(str(request["jobQueue"]))
    definition = catalog.definition(str(request["jobDefinition"]))
    # The catalog has only definitions of one container, because the registration refuses others.
    container = definition["containerProperties"]
    parameters = {**definition.get("parameters", {}), **request.get("parameters", {})}
    command = overrides.get("command") or container.get("command", [])
    # Overrides replace single resources and variables of the definition, and its command as a whole.
    resources = _resources(container) | _resources(overrides)
    return JobSpec(
        name=request["jobName"],
        queue=queue,
        definition=definition["jobDefinitionArn"],
        definition_name=definition["jobDefinitionName"],
        image=container["image"],
        command=tuple(_substitute(word, parameters) for word in command),
        environment=environment(container) | environment(overrides),
        vcpus=_vcpus(resources["VCPU"]),
        resources=resources,
        parameters=parameters,
        retry=_retry_strategy(request.get("retryStrategy") or definition.get("retryStrategy") or {}),
        timeout=_timeout(request.get("timeout") or definition.get("timeout") or {}),
        depends_on=_dependencies(request, find),
        array_size=_array_size(request),
        tags=dict(request.get("tags", {})),
        container=_copied(container),
        platform="FARGATE" if "fargatePlatformConfiguration" in container else "EC2",
        # Batch accepts a job with overrides that are too long, and fails it afterwards.
        immediate_failure=OVERRIDES_TOO_LONG if len(json.dumps(overrides)) > MAX_OVERRIDES else None,
    )


def _check_request(request: Mapping[str, object]) -> None:
    size = len(json.dumps(request))
    if size > MAX_PAYLOAD:
        raise ClientException(f"Job size must be less than 30 KiB, got {-(-size // 1024)} KiB")
    for name in ("jobName", "jobQueue", "jobDefinition"):
        if not request[name]:
            raise ClientException(f"{name} must not be null")
    check_name("Job", str(request["jobName"]))
    for name in _UNSUPPORTED:
        if request.get(name):
            raise ClientException(
                f"The embedded cloud does not support {name}: it runs jobs of one container only. "
                "Use containerOverrides."
            )


def _copied(container: type_defs.ContainerPropertiesOutputTypeDef) -> type_defs.ContainerPropertiesOutputTypeDef:
    properties = {name: value for name, value in container.items() if name in _COPIED}
    return cast("type_defs.ContainerPropertiesOutputTypeDef", properties)


def _resources(properties: Container) -> dict[str, str]:
    """Return the required resources by type: VCPU, MEMORY, GPU."""
    # The deprecated members vcpus and memory still work. resourceRequirements take precedence over them.
    deprecated = {"VCPU": properties.get("vcpus"), "MEMORY": properties.get("memory")}
    resources = {kind: str(value) for kind, value in deprecated.items() if value}
    for requirement in properties.get("resourceRequirements", ()):
        resources[requirement["type"]] = str(requirement["value"])
    # Only a definition has an image. It gets a default, overrides do not.
    return resources if "image" not in properties else {"VCPU": "1"} | resources


def _vcpus(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ClientException(f"Invalid VCPU resource requirement: {text}") from error


def _substitute(word: str, parameters: Mapping[str, str]) -> str:
    prefix, _, name = word.partition("Ref::")
    return word if prefix or name not in parameters else parameters[name]


def environment(properties: Container) -> dict[str, str]:
    """Return the environment variables in container properties. Raises `ClientException` for a refused name."""
    variables = {entry.get("name", ""): str(entry.get("value", "")) for entry in properties.get("environment", ())}
    if "" in variables:
        raise ClientException("Environment variable names must not be empty")
    for name in variables:
        if name.upper().startswith(_RESERVED):
            raise ClientException(f"Environment variable names must not start with {_RESERVED}: {name}")
    return variables


def _retry_strategy(strategy: type_defs.RetryStrategyUnionTypeDef) -> RetryStrategy:
    rules = strategy.get("evaluateOnExit") or []
    attempts = strategy.get("attempts", 1)
    if attempts not in ATTEMPTS:
        raise ClientException("Retry strategy attempts must be between 1 and 10")
    if len(rules) > MAX_EXIT_RULES:
        raise ClientException(f"evaluateOnExit must have at most {MAX_EXIT_RULES} entries")
    if rules and "attempts" not in strategy:
        raise ClientException("attempts must be specified when evaluateOnExit is specified")
    return RetryStrategy(attempts, tuple(_exit_rule(rule) for rule in rules))


def _exit_rule(rule: type_defs.EvaluateOnExitTypeDef) -> ExitRule:
    action = str(rule.get("action", "")).upper()
    patterns = [rule.get("onExitCode"), rule.get("onReason"), rule.get("onStatusReason")]
    if action not in ("RETRY", "EXIT"):
        raise ClientException("evaluateOnExit action must be RETRY or EXIT")
    if any("*" in (pattern or "")[:-1] for pattern in patterns):
        raise ClientException("evaluateOnExit patterns can have an asterisk at their end only")
    if not any(patterns):
        raise ClientException("evaluateOnExit needs at least one of onExitCode, onReason and onStatusReason")
    return ExitRule(action, *patterns)


def _timeout(timeout: type_defs.JobTimeoutTypeDef) -> int | None:
    seconds = timeout.get("attemptDurationSeconds")
    if seconds is not None and seconds < MIN_TIMEOUT:
        raise ClientException(f"Timeout attemptDurationSeconds must be at least {MIN_TIMEOUT}")
    return seconds


def _array_size(request: type_defs.SubmitJobRequestTypeDef) -> int | None:
    size = (request.get("arrayProperties") or {}).get("size")
    if size is not None and size not in ARRAY_SIZES:
        raise ClientException("Array size must be between 2 and 10000")
    return size


def _dependencies(request: type_defs.SubmitJobRequestTypeDef, find: Find) -> tuple[Dependency, ...]:
    entries = request.get("dependsOn") or []
    if len(entries) > MAX_DEPENDENCIES:
        raise ClientException(f"Job cannot have more than {MAX_DEPENDENCIES} dependencies")
    size = _array_size(request)
    return tuple(_dependency(entry, size, find) for entry in entries)


def _dependency(entry: type_defs.JobDependencyTypeDef, size: int | None, find: Find) -> Dependency:
    kind, job_id = entry.get("type", ""), entry.get("jobId")
    if kind not in ("", "SEQUENTIAL", "N_TO_N"):
        raise ClientException(f"Dependency type must be SEQUENTIAL or N_TO_N, not {kind}")
    if kind and size is None:
        raise ClientException(f"Only an array job can have a dependency of type {kind}")
    if kind == "SEQUENTIAL":
        if job_id:
            raise ClientException("A SEQUENTIAL dependency must not have a jobId")
        return Dependency(None, kind)
    needed = find(job_id) if job_id else None
    if needed is None:
        raise ClientException(f"Job dependency {job_id} does not exist")
    if kind == "N_TO_N" and len(needed.children) != size:
        raise ClientException("The arrays of an N_TO_N dependency must be of the same size")
    return Dependency(job_id, kind)
