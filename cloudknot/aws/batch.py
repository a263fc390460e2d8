"""Batch and its logs, as calls: jobs by the hundred, children by their state, a log stream line by line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypedDict
from urllib.parse import quote

from cloudknot.aws import clients
from cloudknot.errors import CloudError, PermissionDeniedError, ResourceDoesNotExistException

if TYPE_CHECKING:
    from types_boto3_batch.literals import JobStatusType
    from types_boto3_batch.type_defs import (
        ArrayPropertiesDetailTypeDef,
        AttemptDetailTypeDef,
        ContainerDetailTypeDef,
        JobDefinitionTypeDef,
        JobSummaryTypeDef,
    )
    from types_boto3_logs.type_defs import GetLogEventsRequestTypeDef, GetLogEventsResponseTypeDef
    from typing_extensions import ReadOnly

    from cloudknot.aws.door import Door

    JobDefinition = JobDefinitionTypeDef
    """A revision, as DescribeJobDefinitions lists it."""

    JobSummary = JobSummaryTypeDef
    """What ListJobs says of a job."""

    class Job(TypedDict, total=False):
        """What DescribeJobs says of a job: the part that cloudknot reads. All of it is missing from some."""

        jobId: ReadOnly[str]
        jobName: ReadOnly[str]
        jobQueue: ReadOnly[str]
        jobDefinition: ReadOnly[str]
        status: ReadOnly[str]
        statusReason: ReadOnly[str]
        createdAt: ReadOnly[int]
        startedAt: ReadOnly[int]
        stoppedAt: ReadOnly[int]
        isCancelled: ReadOnly[bool]
        isTerminated: ReadOnly[bool]
        arrayProperties: ReadOnly[ArrayPropertiesDetailTypeDef]
        attempts: ReadOnly[list[AttemptDetailTypeDef]]
        container: ReadOnly[ContainerDetailTypeDef]
        tags: ReadOnly[dict[str, str]]


LOG_GROUP = "/aws/batch/job"
"""Batch's own log group: that of jobs whose definition names none."""
DESCRIBE_LIMIT = 100
"""Job ids a call takes (Batch API reference, DescribeJobs)."""
TERMINATE_LIMIT = 50
"""Job ids a call takes (Batch API reference, TerminateJobs)."""
CHILDREN_PAUSES = (0.0, 1.0, 2.0)
"""Seconds that Batch is given to pass a termination on to children, before each look at them."""
STOPPABLE: tuple[JobStatusType, ...] = ("RUNNABLE", "STARTING", "RUNNING")
"""States in which a child may be after its parent was terminated."""
LIVE_STATES: tuple[JobStatusType, ...] = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
UNSUBMITTED = "UNSUBMITTED"
"""Our own status, in place of one of Batch's, for a job that was never submitted."""


def describe_jobs(door: Door, job_ids: Sequence[str]) -> list[Job]:
    """Batch's descriptions of those of the jobs that it still knows."""
    found: list[Job] = []
    for start in range(0, len(job_ids), DESCRIBE_LIMIT):
        found += clients.batch(door).describe_jobs(jobs=list(job_ids[start : start + DESCRIBE_LIMIT]))["jobs"]
    return found


def find_by_name(door: Door, queue: str, name: str) -> list[JobSummary]:
    """Batch's summaries of the jobs of a queue that have exactly this name, the oldest first.

    A queue that is not there has none.
    """
    jobs = clients.batch(door).get_paginator("list_jobs")
    pages = jobs.paginate(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
    try:
        # Batch's filter does not tell upper from lower case (API reference, ListJobs).
        found = [summary for page in pages for summary in page["jobSummaryList"] if summary["jobName"] == name]
    except CloudError as error:
        if not is_gone(error):
            raise
        return []
    return sorted(found, key=lambda summary: summary.get("createdAt", 0))


def is_gone(error: CloudError) -> bool:
    """Whether an error says that there is no such queue or job, for which Batch has no code of its own."""
    return isinstance(error, ResourceDoesNotExistException) or "does not exist" in str(error)


def count_states(jobs: Sequence[Job]) -> dict[str, int]:
    """How many children are in which state."""
    counts: Counter[str] = Counter()
    for job in jobs:
        counts.update(job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1})
    return dict(counts)


def reason_of_waiting(door: Door, job_ids: Sequence[str], *, array: bool) -> str:
    """Why a job, or a child of an array, stays in RUNNABLE; empty when Batch gives no reason."""
    found: Sequence[Job | JobSummary]
    if array:
        some = clients.batch(door).list_jobs(arrayJobId=job_ids[0], jobStatus="RUNNABLE", maxResults=10)
        found = some["jobSummaryList"]
    else:
        found = [job for job in describe_jobs(door, job_ids) if job["status"] == "RUNNABLE"]
    return next((job["statusReason"] for job in found if job.get("statusReason")), "")


def list_children(door: Door, parent_id: str, status: JobStatusType) -> list[JobSummary]:
    """Batch's summaries of an array job's children in one state."""
    pages = clients.batch(door).get_paginator("list_jobs").paginate(arrayJobId=parent_id, jobStatus=status)
    return [summary for page in pages for summary in page["jobSummaryList"]]


def terminate(
    door: Door, jobs: Sequence[Job | JobSummary], reason: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """End jobs in whatever state they are, their running children too.

    AWS's documentation says of cancelling a parent that it reaches the children, and nothing of terminating one. So a
    sample of those that are left is looked at, and only if they were not reached, each is ended by itself.
    """
    _terminate_all(door, [job["jobId"] for job in jobs], reason)
    for job in jobs:
        if "arrayProperties" in job and (left := _not_reached(door, job["jobId"], sleep)):
            _terminate_all(door, left, reason)


def _not_reached(door: Door, parent_id: str, sleep: Callable[[float], None]) -> list[str]:
    """The children that go on although their parent was terminated a while ago; none where a sample is ending."""
    left: list[str] = []
    for pause in CHILDREN_PAUSES:
        sleep(pause)
        try:
            left = [child["jobId"] for status in STOPPABLE for child in list_children(door, parent_id, status)]
        except CloudError as error:
            if not is_gone(error):
                raise
            return []
        if all(_is_ending(child) for child in describe_jobs(door, left[:DESCRIBE_LIMIT])):
            return []
    return left


def is_stopped(job: Job | JobSummary) -> bool:
    """Whether somebody has asked for the end of a job."""
    return bool(job.get("isTerminated") or job.get("isCancelled"))


def _is_ending(child: Job) -> bool:
    return is_stopped(child) or child["status"] in ("SUCCEEDED", "FAILED")


def _terminate_all(door: Door, job_ids: Sequence[str], reason: str) -> None:
    """End jobs in bulk where boto3 knows how to (version 1.44) and the user may, else one by one."""
    left = list(job_ids)
    if len(left) > 1 and hasattr(door.client("batch"), "terminate_jobs"):
        with suppress(PermissionDeniedError):
            left = _terminate_in_bulk(door, left, reason)
    for job_id in left:
        try:
            clients.batch(door).terminate_job(jobId=job_id, reason=reason)
        except CloudError as error:
            # What Batch does not know, it does not run.
            if not is_gone(error):
                raise


def _terminate_in_bulk(door: Door, job_ids: Sequence[str], reason: str) -> list[str]:
    """End jobs by as few calls as can be; return those for which that was refused."""
    refused: list[str] = []
    for start in range(0, len(job_ids), TERMINATE_LIMIT):
        chosen = list(job_ids[start : start + TERMINATE_LIMIT])
        answer = clients.batch(door).terminate_jobs(jobs=chosen, reason=reason)
        refused += [error["job"] for error in answer.get("errors", ())]
    return refused


class LogStream(NamedTuple):
    """Where CloudWatch Logs has the output of one attempt."""

    group: str
    name: str


def log_streams(job: Job) -> list[LogStream]:
    """The log streams of a job's attempts, oldest first, in the log group of its job definition."""
    configured = job.get("container", {}).get("logConfiguration")
    group = (configured.get("options") or {}).get("awslogs-group", LOG_GROUP) if configured else LOG_GROUP
    streams = [attempt.get("container", {}).get("logStreamName") for attempt in job.get("attempts", ())]
    streams.append(job.get("container", {}).get("logStreamName"))
    return [LogStream(group, name) for name in dict.fromkeys(streams) if name]


def log_lines(get_log_events: Callable[..., GetLogEventsResponseTypeDef], stream: LogStream) -> Iterator[str]:
    """The lines of a log stream so far, from its beginning. A stream that does not exist yet has none.

    ``get_log_events`` calls GetLogEvents with the keyword arguments given.
    """
    where: GetLogEventsRequestTypeDef = {
        "logGroupName": stream.group,
        "logStreamName": stream.name,
        "startFromHead": True,
    }
    token = None
    while True:
        try:
            page = get_log_events(**where)
        except ResourceDoesNotExistException:
            return
        for event in page["events"]:
            yield event["message"]
        # CloudWatch Logs ends a stream by giving the same token again (API reference, GetLogEvents).
        if page["nextForwardToken"] == token:
            return
        token = where["nextToken"] = page["nextForwardToken"]


def console_log_url(region: str, stream: LogStream) -> str:
    """Where the AWS console shows a log stream."""
    group, name = (quote(quote(text, safe=""), safe="").replace("%", "$") for text in stream)
    return (
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
        f"#logsV2:log-groups/log-group/{group}/log-events/{name}"
    )
