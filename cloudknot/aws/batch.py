"""Calls to AWS Batch and its logs: describe, list and end jobs, and read log streams."""

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
        JobTimeoutTypeDef,
    )
    from types_boto3_logs.type_defs import GetLogEventsRequestTypeDef, GetLogEventsResponseTypeDef
    from typing_extensions import ReadOnly

    from cloudknot.aws.door import Door

    JobDefinition = JobDefinitionTypeDef
    """A revision of a job definition, as DescribeJobDefinitions returns it."""

    JobSummary = JobSummaryTypeDef
    """A job, as ListJobs returns it."""

    class Job(TypedDict, total=False):
        """The part of DescribeJobs' answer that cloudknot reads. Any of the fields may be missing."""

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
        timeout: ReadOnly[JobTimeoutTypeDef]
        tags: ReadOnly[dict[str, str]]


LOG_GROUP = "/aws/batch/job"
"""Batch's own log group, for jobs with a definition that names none."""
LONGEST_MESSAGE = 262_144 - 26
"""Bytes of the longest event that ECS's log driver writes. A longer line becomes several events (Docker, "Amazon
CloudWatch Logs logging driver")."""
DESCRIBE_LIMIT = 100
"""Most job ids in one call (Batch API reference, DescribeJobs)."""
TERMINATE_LIMIT = 50
"""Most job ids in one call (Batch API reference, TerminateJobs)."""
CHILDREN_PAUSES = (0.0, 1.0, 2.0)
"""Seconds to wait before each listing of the children of a terminated job, so that Batch can end them by itself."""
STOPPABLE: tuple[JobStatusType, ...] = ("RUNNABLE", "STARTING", "RUNNING")
"""States of a child that may still run after its parent was terminated."""
LIVE_STATES: tuple[JobStatusType, ...] = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
UNSUBMITTED = "UNSUBMITTED"
"""Status of a job that was never submitted. It is cloudknot's own, not one of Batch's."""


def job_definitions(caller: clients.Caller, status: str = "ACTIVE") -> list[JobDefinition]:
    """Return all revisions of job definitions in the region.

    ``"ACTIVE"`` ones can be submitted. ``"INACTIVE"`` ones cannot; Batch shows them for 180 days.
    """
    pages = clients.batch(caller).get_paginator("describe_job_definitions").paginate(status=status)
    return [definition for page in pages for definition in page["jobDefinitions"]]


def describe_jobs(door: Door, job_ids: Sequence[str]) -> list[Job]:
    """Return Batch's descriptions of jobs. Jobs that Batch has forgotten are left out."""
    jobs: list[Job] = []
    for start in range(0, len(job_ids), DESCRIBE_LIMIT):
        jobs += clients.batch(door).describe_jobs(jobs=list(job_ids[start : start + DESCRIBE_LIMIT]))["jobs"]
    return jobs


def find_by_name(door: Door, queue: str, name: str) -> list[JobSummary]:
    """Return Batch's summaries of a queue's jobs with exactly this name, oldest first; empty without that queue."""
    paginator = clients.batch(door).get_paginator("list_jobs")
    pages = paginator.paginate(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
    try:
        # Batch's filter ignores case (Batch API reference, ListJobs).
        jobs = [summary for page in pages for summary in page["jobSummaryList"] if summary["jobName"] == name]
    except CloudError as error:
        if not is_gone(error):
            raise
        return []
    return sorted(jobs, key=lambda summary: summary.get("createdAt", 0))


def live_jobs(caller: clients.Caller, queue: str, definition: str = "") -> list[JobSummary]:
    """Return the jobs of a queue that have not ended; none for a queue that does not exist.

    With the name of a job definition, returns only its jobs.
    """
    paginator = clients.batch(caller).get_paginator("list_jobs")
    try:
        pages = [page for status in LIVE_STATES for page in paginator.paginate(jobQueue=queue, jobStatus=status)]
    except CloudError as error:
        if is_gone(error):
            return []
        raise
    jobs = [summary for page in pages for summary in page["jobSummaryList"]]
    return [job for job in jobs if definition in ("", definition_of(job))]


def definition_of(job: JobSummary) -> str:
    """Return the name of a job's definition, from its ARN with the number of the revision."""
    return job.get("jobDefinition", "").rpartition("/")[2].partition(":")[0]


def is_gone(error: CloudError) -> bool:
    """Return whether an error reports a queue or job that does not exist."""
    # Batch reports this as a ClientException, a code for many errors, so only the message distinguishes it.
    return isinstance(error, ResourceDoesNotExistException) or "does not exist" in str(error)


def count_states(jobs: Sequence[Job]) -> dict[str, int]:
    """Return the number of child jobs in each state. A job without children counts as one."""
    counts: Counter[str] = Counter()
    for job in jobs:
        counts.update(job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1})
    return dict(counts)


def state_of(jobs: Sequence[Job]) -> str:
    """Return the state of jobs together: the most advanced of those that have not ended, else how they have ended.

    An array job has the state of its children. Batch itself calls it PENDING until all of them have ended.
    """
    live = [job for job in jobs if job["status"] in LIVE_STATES]
    if not live:
        return "FAILED" if any(job["status"] == "FAILED" for job in jobs) else "SUCCEEDED"
    states = count_states(live)
    # The last child has ended, and Batch has not ended its parent yet.
    return next((state for state in reversed(LIVE_STATES) if states.get(state)), "RUNNING")


def reasons_of(jobs: Sequence[Job]) -> str:
    """Return Batch's reasons for the states of jobs, each once; empty if Batch gives none."""
    return "; ".join(dict.fromkeys(job["statusReason"] for job in jobs if job.get("statusReason")))


def reason_of_waiting(door: Door, job_ids: Sequence[str], *, array: bool) -> str:
    """Return Batch's reason why jobs, or the children of an array job, stay RUNNABLE; empty if Batch gives none."""
    waiting: Sequence[Job | JobSummary]
    if array:
        # All children need the same machine, so a few of them show the reason.
        page = clients.batch(door).list_jobs(arrayJobId=job_ids[0], jobStatus="RUNNABLE", maxResults=10)
        waiting = page["jobSummaryList"]
    else:
        waiting = [job for job in describe_jobs(door, job_ids) if job["status"] == "RUNNABLE"]
    return next((job["statusReason"] for job in waiting if job.get("statusReason")), "")


def list_children(door: Door, parent_id: str, status: JobStatusType) -> list[JobSummary]:
    """Return Batch's summaries of an array job's children in one state."""
    pages = clients.batch(door).get_paginator("list_jobs").paginate(arrayJobId=parent_id, jobStatus=status)
    return [summary for page in pages for summary in page["jobSummaryList"]]


def terminate(
    door: Door, jobs: Sequence[Job | JobSummary], reason: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """End jobs in any state, with their running children."""
    _terminate_all(door, [job["jobId"] for job in jobs], reason)
    # AWS documents that cancelling an array job cancels its children. It documents no such thing for terminating one.
    for job in jobs:
        if "arrayProperties" in job and (survivors := _survivors(door, job["jobId"], sleep)):
            _terminate_all(door, survivors, reason)


def _survivors(door: Door, parent_id: str, sleep: Callable[[float], None]) -> list[str]:
    """Return the children that still run although their parent was terminated; empty if Batch is ending them."""
    survivors: list[str] = []
    for pause in CHILDREN_PAUSES:
        sleep(pause)
        try:
            survivors = [child["jobId"] for status in STOPPABLE for child in list_children(door, parent_id, status)]
        except CloudError as error:
            if not is_gone(error):
                raise
            return []
        # A sample of a hundred children is enough, and takes one call.
        if all(_is_ending(child) for child in describe_jobs(door, survivors[:DESCRIBE_LIMIT])):
            return []
    return survivors


def is_stopped(job: Job | JobSummary) -> bool:
    """Return whether somebody has cancelled or terminated a job."""
    return bool(job.get("isTerminated") or job.get("isCancelled"))


def _is_ending(child: Job) -> bool:
    return is_stopped(child) or child["status"] in ("SUCCEEDED", "FAILED")


def _terminate_all(door: Door, job_ids: Sequence[str], reason: str) -> None:
    """End jobs in bulk if possible, else one by one."""
    remaining = list(job_ids)
    # The bulk call needs boto3 1.44, and may be denied where the single call is allowed.
    if len(remaining) > 1 and hasattr(door.client("batch"), "terminate_jobs"):
        with suppress(PermissionDeniedError):
            remaining = _terminate_in_bulk(door, remaining, reason)
    for job_id in remaining:
        try:
            clients.batch(door).terminate_job(jobId=job_id, reason=reason)
        except CloudError as error:
            # Batch has forgotten the job, so it ended long ago.
            if not is_gone(error):
                raise


def _terminate_in_bulk(door: Door, job_ids: Sequence[str], reason: str) -> list[str]:
    """End jobs by as few calls as possible, and return the ids of the jobs that Batch refused to end."""
    refused: list[str] = []
    for start in range(0, len(job_ids), TERMINATE_LIMIT):
        group = list(job_ids[start : start + TERMINATE_LIMIT])
        answer = clients.batch(door).terminate_jobs(jobs=group, reason=reason)
        refused += [error["job"] for error in answer.get("errors", ())]
    return refused


class LogStream(NamedTuple):
    """The place of one attempt's output in CloudWatch Logs."""

    group: str
    name: str


def log_streams(job: Job) -> list[LogStream]:
    """Return the log streams of a job's attempts, oldest first."""
    configured = job.get("container", {}).get("logConfiguration")
    group = (configured.get("options") or {}).get("awslogs-group", LOG_GROUP) if configured else LOG_GROUP
    streams = [attempt.get("container", {}).get("logStreamName") for attempt in job.get("attempts", ())]
    streams.append(job.get("container", {}).get("logStreamName"))
    return [LogStream(group, name) for name in dict.fromkeys(streams) if name]


def log_pages(
    get_log_events: Callable[..., GetLogEventsResponseTypeDef], stream: LogStream, token: str = ""
) -> Iterator[tuple[list[str], str]]:
    """Yield the lines of each page of a log stream so far, and the token with which a later call continues.

    A line that the log holds in several events comes with the page that has its end.
    """
    begun = ""
    request: GetLogEventsRequestTypeDef = {
        "logGroupName": stream.group,
        "logStreamName": stream.name,
        "startFromHead": True,
    }
    while True:
        if token:
            request["nextToken"] = token
        try:
            page = get_log_events(**request)
        except ResourceDoesNotExistException:
            return
        lines = []
        for message in (event["message"] for event in page["events"]):
            begun += message
            if not _goes_on(message):
                lines.append(begun)
                begun = ""
        # At the end of a stream, CloudWatch Logs returns the same token again (API reference, GetLogEvents).
        is_last = page["nextForwardToken"] == token
        yield [*lines, *([begun] if begun and is_last else [])], page["nextForwardToken"]
        if is_last:
            return
        token = page["nextForwardToken"]


def _goes_on(message: str) -> bool:
    """Return whether an event is so long that its line goes on in the next one."""
    # The driver cuts before a character, so up to three bytes earlier.
    return 4 * len(message) > LONGEST_MESSAGE and len(message.encode(errors="replace")) > LONGEST_MESSAGE - 4


# AWS GovCloud (US) user guide; "Getting Started with Amazon Web Services in China"; AWS European Sovereign Cloud user
# guide. Outside the partition aws, these hosts have no region.
_CONSOLES = {
    "aws": "{region}.console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
"""The host of the AWS console in each public partition."""


def console_log_url(region: str, stream: LogStream, partition: str = "aws", suffix: str = "amazonaws.com") -> str:
    """Return the address of the AWS console's page that shows a log stream.

    Parameters
    ----------
    region : str
    stream : LogStream
    partition : str
        The region's partition, such as ``"aws-cn"``.
    suffix : str
        The end of the partition's host names. The console of a partition that is not public is assumed to have it.
    """
    host = _CONSOLES.get(partition, f"console.{suffix}").format(region=region)
    # The console expects names quoted twice, with $ in place of %.
    group, name = (quote(quote(text, safe=""), safe="").replace("%", "$") for text in stream)
    return f"https://{host}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}/log-events/{name}"
