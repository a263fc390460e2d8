"""DescribeJobs and ListJobs: what the engine knows, in the shapes of the AWS Batch API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from cloudknot.local.batch.records import Attempt, Dependency, Job, RetryStrategy, Status
from cloudknot.local.errors import ClientException

MAX_DESCRIBED = 100
PAGE_SIZE = 1000
"""Jobs a page of ListJobs; with a filter 100 (AWS Batch API reference, "ListJobs")."""
FILTERED_PAGE_SIZE = 100


def arn(job: Job) -> str:
    """The job's ARN, in its queue's account and region."""
    return f"{job.spec.queue.arn.partition(':job-queue/')[0]}:job/{job.id}"


def detail(job: Job) -> dict[str, Any]:
    """A job as DescribeJobs shows it."""
    spec = job.spec
    return _without_none(
        {
            "jobArn": arn(job),
            "jobName": spec.name,
            "jobId": job.id,
            "jobQueue": spec.queue.arn,
            "jobDefinition": spec.definition,
            "status": job.status,
            "statusReason": job.reason,
            "createdAt": job.created,
            "startedAt": job.started,
            "stoppedAt": job.stopped,
            "attempts": [_attempt(attempt) for attempt in job.attempts if attempt.stopped is not None],
            "retryStrategy": _retry_strategy(spec.retry),
            "dependsOn": [_dependency(dependency) for dependency in spec.depends_on],
            "parameters": dict(spec.parameters),
            "container": _container(job),
            "arrayProperties": _array(job),
            "timeout": None if spec.timeout is None else {"attemptDurationSeconds": spec.timeout},
            "tags": dict(spec.tags),
            "platformCapabilities": [spec.platform],
            "isCancelled": job.cancelled,
            "isTerminated": job.terminated,
        }
    )


def summary(job: Job) -> dict[str, Any]:
    """A job as ListJobs shows it."""
    last = _last_stopped(job)
    container = {} if last is None else _without_none({"exitCode": last.exit_code, "reason": last.reason})
    return _without_none(
        {
            "jobArn": arn(job),
            "jobId": job.id,
            "jobName": job.spec.name,
            "jobDefinition": job.spec.definition,
            "status": job.status,
            "statusReason": job.reason,
            "createdAt": job.created,
            "startedAt": job.started,
            "stoppedAt": job.stopped,
            "container": container or None,
            "arrayProperties": _array(job),
        }
    )


def _container(job: Job) -> dict[str, Any]:
    spec, last = job.spec, job.attempts[-1] if job.attempts else None
    return _without_none(
        {
            **spec.container,
            "image": spec.image,
            "command": list(spec.command),
            "environment": [{"name": name, "value": value} for name, value in spec.environment.items()],
            "resourceRequirements": [{"type": kind, "value": value} for kind, value in spec.resources.items()],
            "volumes": [],
            "mountPoints": [],
            "ulimits": [],
            "secrets": [],
            "networkInterfaces": [],
            "logStreamName": last and last.log_stream,
            "exitCode": last and last.exit_code,
            "reason": last and last.reason,
        }
    )


def _attempt(attempt: Attempt) -> dict[str, Any]:
    container = {"exitCode": attempt.exit_code, "reason": attempt.reason, "logStreamName": attempt.log_stream}
    return _without_none(
        {
            "container": _without_none({**container, "networkInterfaces": []}),
            "startedAt": attempt.started,
            "stoppedAt": attempt.stopped,
            "statusReason": attempt.status_reason,
        }
    )


def _last_stopped(job: Job) -> Attempt | None:
    return next((attempt for attempt in reversed(job.attempts) if attempt.stopped is not None), None)


def _array(job: Job) -> dict[str, Any] | None:
    if job.index is not None:
        return {"index": job.index, "statusSummary": {}}
    if job.spec.array_size is None:
        return None
    return {"size": job.spec.array_size, "statusSummary": {status.value: job.summary[status] for status in Status}}


def _retry_strategy(strategy: RetryStrategy) -> dict[str, Any]:
    rules = [
        _without_none(
            {
                "action": rule.action,
                "onExitCode": rule.on_exit_code,
                "onReason": rule.on_reason,
                "onStatusReason": rule.on_status_reason,
            }
        )
        for rule in strategy.rules
    ]
    return {"attempts": strategy.attempts, "evaluateOnExit": rules}


def _dependency(dependency: Dependency) -> dict[str, Any]:
    return _without_none({"jobId": dependency.job_id, "type": dependency.type or None})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def page(request: Mapping[str, Any], jobs: Iterable[Job]) -> dict[str, Any]:
    """A page of ListJobs over ``jobs``, which are in the order to be shown.

    The token is the creation order of the last job shown, so that jobs which come or go do not shift pages.
    """
    size = min(request.get("maxResults") or PAGE_SIZE, FILTERED_PAGE_SIZE if request.get("filters") else PAGE_SIZE)
    token = request.get("nextToken")
    if token is not None:
        jobs = _after(jobs, token)
    shown = list(islice(jobs, size + 1))
    answer: dict[str, Any] = {"jobSummaryList": [summary(job) for job in shown[:size]]}
    if len(shown) > size:
        answer["nextToken"] = str(shown[size - 1].order)
    return answer


def _after(jobs: Iterable[Job], token: str) -> Iterable[Job]:
    if not token.isdecimal():
        raise ClientException("Invalid nextToken")
    last = int(token)
    # Arrays are listed by rising, queues by falling order; a page never turns round.
    return (job for job in jobs if (job.order > last if job.parent is not None else job.order < last))


def matches(job: Job, filters: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a job passes ListJobs' filters (names and semantics: AWS Batch API reference, "ListJobs")."""
    return all(any(_matches(job, entry["name"], value) for value in entry.get("values", ())) for entry in filters)


def _matches(job: Job, name: str, value: str) -> bool:
    if name == "JOB_NAME":
        return _glob(value.lower(), job.spec.name.lower())
    if name == "JOB_DEFINITION":
        return value == job.spec.definition or _glob(value, job.spec.definition_name)
    if name == "BEFORE_CREATED_AT":
        return job.created < int(value)
    if name == "AFTER_CREATED_AT":
        return job.created > int(value)
    raise ClientException(f"Filter {name} is not one of the embedded cloud's")


def _glob(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
