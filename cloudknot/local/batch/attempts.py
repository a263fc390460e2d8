"""A job's attempts: the task of the next one, and whether a failed one is followed by another. Pure."""

from __future__ import annotations

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.local.batch.records import Attempt, ExitRule, Job, RetryStrategy, Task


def task_of(job: Job, identity: str) -> Task:
    """The task of a job's next attempt.

    ``identity`` becomes the task id and the end of the log stream's name, as with the ``awslogs`` driver.
    """
    configuration = job.spec.container.get("logConfiguration")
    logs = (configuration.get("options") if configuration else None) or {}
    prefix = logs.get("awslogs-stream-prefix", job.spec.definition_name)
    return Task(
        id=identity,
        image=job.spec.image,
        command=job.spec.command,
        environment=dict(job.spec.environment) | batch_variables(job),
        log_stream=f"{prefix}/default/{identity}",
        log_group=logs.get("awslogs-group", LOG_GROUP),
        vcpus=job.spec.vcpus,
        memory=int(job.spec.resources["MEMORY"]) if "MEMORY" in job.spec.resources else None,
        user=job.spec.container.get("user"),
        role=job.spec.container.get("jobRoleArn"),
        init=bool(job.spec.container.get("linuxParameters", {}).get("initProcessEnabled")),
    )


def batch_variables(job: Job) -> dict[str, str]:
    """What Batch itself sets (AWS Batch user guide, "AWS Batch job environment variables")."""
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


def retries(strategy: RetryStrategy, attempts: int, last: Attempt) -> bool:
    """Whether a job goes on after ``attempts`` attempts, of which ``last`` failed.

    The first rule that matches decides; when none does, the job is retried (AWS Batch API, "EvaluateOnExit").
    """
    if attempts >= strategy.attempts:
        return False
    for rule in strategy.rules:
        if _matches(rule, last):
            return rule.action == "RETRY"
    return True


def _matches(rule: ExitRule, attempt: Attempt) -> bool:
    exit_code = None if attempt.exit_code is None else str(attempt.exit_code)
    return (
        _glob(rule.on_exit_code, exit_code)
        and _glob(rule.on_reason, attempt.reason)
        and _glob(rule.on_status_reason, attempt.status_reason)
    )


def _glob(pattern: str | None, text: str | None) -> bool:
    if pattern is None or pattern == "*":
        return True
    if text is None:
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
