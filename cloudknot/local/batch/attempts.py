"""The attempts of a job: the task of the next one, and the retry decision after a failed one. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.local.batch.names import matches_pattern
from cloudknot.local.batch.records import Attempt, ExitRule, Job, JobSpec, RetryStrategy, Task


def next_task(job: Job, task_id: str) -> Task:
    """Return the task of a job's next attempt. The name of its log stream ends with ``task_id``."""
    return Task(
        id=task_id,
        image=job.spec.image,
        command=job.spec.command,
        # Batch's own variables come last, so that a job cannot set its own array index.
        environment=dict(job.spec.environment) | batch_variables(job),
        log_stream=log_stream(job.spec, task_id),
        log_group=_log_options(job.spec).get("awslogs-group", LOG_GROUP),
        vcpus=job.spec.vcpus,
        memory=int(job.spec.resources["MEMORY"]) if "MEMORY" in job.spec.resources else None,
        user=job.spec.container.get("user"),
        role=job.spec.container.get("jobRoleArn"),
        init=bool(job.spec.container.get("linuxParameters", {}).get("initProcessEnabled")),
    )


def log_stream(spec: JobSpec, task_id: str) -> str:
    """Return the name of a task's log stream."""
    # The awslogs driver names a stream prefix/container/task id. Batch calls the only container of a job "default".
    prefix = _log_options(spec).get("awslogs-stream-prefix", spec.definition_name)
    return f"{prefix}/default/{task_id}"


def _log_options(spec: JobSpec) -> Mapping[str, str]:
    configuration = spec.container.get("logConfiguration")
    return (configuration.get("options") if configuration else None) or {}


def batch_variables(job: Job) -> dict[str, str]:
    """Return the variables that Batch sets (AWS Batch user guide, "AWS Batch job environment variables")."""
    variables = {
        "AWS_BATCH_JOB_ID": job.id,
        "AWS_BATCH_JOB_ATTEMPT": str(len(job.attempts) + 1),
        "AWS_BATCH_CE_NAME": job.spec.queue.environment,
        "AWS_BATCH_JQ_NAME": job.spec.queue.name,
    }
    if job.index is not None:
        variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(job.index)
        variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(job.spec.array_size)
    return variables


def is_retried(strategy: RetryStrategy, attempts: int, last: Attempt) -> bool:
    """Return whether another attempt follows ``attempts`` attempts, after ``last`` failed."""
    if attempts >= strategy.attempts:
        return False
    # The first matching rule decides. Without one, Batch retries (AWS Batch API reference, "EvaluateOnExit").
    for rule in strategy.rules:
        if _matches(rule, last):
            return rule.action == "RETRY"
    return True


def _matches(rule: ExitRule, attempt: Attempt) -> bool:
    exit_code = None if attempt.exit_code is None else str(attempt.exit_code)
    return (
        _covers(rule.on_exit_code, exit_code)
        and _covers(rule.on_reason, attempt.reason)
        and _covers(rule.on_status_reason, attempt.status_reason)
    )


def _covers(pattern: str | None, text: str | None) -> bool:
    if pattern is None or pattern == "*":
        return True
    # For example the exit code of an attempt on a lost host. Only an asterisk matches it.
    return text is not None and matches_pattern(pattern, text)
