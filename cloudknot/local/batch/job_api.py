"""The API of Batch. The operations for jobs are here: one lock guards the engine, and a runner performs its actions.

A change is stored before its actions are performed, and before a client sees it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from cloudknot.local.batch.catalog import DEFINITION, QUEUE, BatchCatalog
from cloudknot.local.batch.engine import Engine
from cloudknot.local.batch.job_store import JobStore
from cloudknot.local.batch.names import matches_pattern
from cloudknot.local.batch.records import (
    HOST_OF_EARLIER_PROCESS,
    Action,
    Attempt,
    Dependency,
    Event,
    Exited,
    Job,
    RetryStrategy,
    Start,
    Status,
)
from cloudknot.local.batch.resource_api import QUOTA, BatchResources
from cloudknot.local.batch.runner import Runner
from cloudknot.local.batch.submission import environment, resolve
from cloudknot.local.directory.database import Database
from cloudknot.local.iam.requests.operations import Operation, carry_out
from cloudknot.local.wsgi import Answer, ClientException

if TYPE_CHECKING:
    from types_boto3_batch import type_defs

End = Callable[[Job, str, float], list[Action]]
"""``end(job, reason, now)``: cancels or terminates a job."""

MAX_BULK = 50
"""Jobs in a call of CancelJobs or TerminateJobs."""
MAX_DESCRIBED = 100
"""Jobs in a call of DescribeJobs."""
QUEUE_DELETION = 1.0
"""Seconds between the deletion of a queue and the end of its jobs."""
PAGE_SIZE = 1000
"""Jobs on a page of ListJobs without a filter (AWS Batch API reference, "ListJobs")."""
FILTERED_PAGE_SIZE = 100
"""Jobs on a page of ListJobs with a filter."""
QUEUE_DELETED = "The job queue was deleted"

_log = logging.getLogger(__name__)


class Batch:
    """AWS Batch in one cloud.

    Parameters
    ----------
    database : Database
        The stored resources and jobs, with the tables of `catalog` and `job_store`.
    runner : Runner
    services : callable
        Calls an operation of another service, as described for `BatchResources`.
    vcpus : float
        The vCPUs that running jobs may hold together.
    quota : int
        The maximum number of job queues, and of compute environments.
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        runner: Runner,
        services: Callable[..., object],
        vcpus: float,
        quota: int = QUOTA,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runner, self._clock = runner, clock
        self._catalog, self._store = BatchCatalog(database), JobStore(database)
        self._engine = Engine(vcpus, lambda: str(uuid.uuid4()), self._store.next_number())
        self._changed = threading.Condition()
        self._closed = False
        # The timekeeper sleeps until this time. Only an earlier deadline wakes it.
        self._due = math.inf
        self._resources = BatchResources(self._catalog, services, quota, self._end_queue)
        self._operations: Mapping[str, Operation] = {
            **self._resources.operations,
            "RegisterJobDefinition": self._register,
            "DeregisterJobDefinition": self._deregister,
            "SubmitJob": self._submit_job,
            "DescribeJobs": self._describe_jobs,
            "ListJobs": self._list_jobs,
            "CancelJob": self._cancel_job,
            "TerminateJob": self._terminate_job,
            "CancelJobs": self._cancel_jobs,
            "TerminateJobs": self._terminate_jobs,
        }
        self._timekeeper = threading.Thread(target=self._keep_time, name="batch-deadlines", daemon=True)

    def start(self) -> None:
        """Go on with the jobs of an earlier server process. Its running attempts are lost."""
        with self._changed:
            jobs = self._store.live()
            for dependency in (dependency for job in jobs for dependency in job.spec.depends_on):
                self._known(dependency.job_id or "")
            reason = HOST_OF_EARLIER_PROCESS.format(id=secrets.randbits(68))
            self._perform(self._engine.restore(jobs, reason, self._clock()))
            for name in {job.spec.queue.name for job in jobs}:
                if self._catalog.find(QUEUE, name) is None:
                    self._end_queue(name)
        self._timekeeper.start()
        if (newest := self._catalog.newest_definition()) is not None:
            self._prepare(newest)

    def _register(self, request: type_defs.RegisterJobDefinitionRequestTypeDef) -> Answer:
        answer = self._resources.operations["RegisterJobDefinition"](request)
        self._prepare(request)
        return answer

    def _deregister(self, request: type_defs.DeregisterJobDefinitionRequestTypeDef) -> Answer:
        definition = self._catalog.find(DEFINITION, request["jobDefinition"])
        answer = self._resources.operations["DeregisterJobDefinition"](request)
        if definition is not None:
            self._runner.release(definition["containerProperties"]["image"])
        return answer

    def _prepare(self, definition: Mapping[str, Any]) -> None:
        """Have the runner prepare jobs of a definition. They follow its registration, and the start of a cloud."""
        container = definition["containerProperties"]
        # Every job of a definition with a refused variable is refused, so it needs no preparation.
        with contextlib.suppress(ClientException):
            self._runner.prepare(container["image"], container.get("jobRoleArn"), environment(container))

    def respond(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Answer a request. Raise `ServiceError` for a refused one."""
        return carry_out("batch", self._operations, operation, request, ClientException)

    def _submit_job(self, request: type_defs.SubmitJobRequestTypeDef) -> Answer:
        with self._changed:
            self._engine.make_room()
            self._store.delete_old(int(self._clock() * 1000))
            spec = resolve(request, self._catalog, self._known)
            job, actions = self._engine.submit(spec, self._clock())
            try:
                self._store.add(job, self._engine.changed.values())
            except (OSError, sqlite3.Error):
                self._withdraw(job, actions)
                raise
            self._engine.changed.clear()
            self._perform(actions)
        return {"jobArn": arn(job), "jobName": spec.name, "jobId": job.id}

    def _withdraw(self, job: Job, actions: Iterable[Action]) -> None:
        """Drop a job that could not be stored, before anything of it starts."""
        now = self._clock()
        self._engine.terminate(job, "The job could not be stored", now)
        for action in actions:
            if isinstance(action, Start):
                self._engine.handle(Exited(action.task.id, None), now)
        self._engine.forget(job)

    def _describe_jobs(self, request: type_defs.DescribeJobsRequestTypeDef) -> Answer:
        ids = request["jobs"]
        if len(ids) > MAX_DESCRIBED:
            raise ClientException(f"Number of jobs must be at most {MAX_DESCRIBED}")
        # As on AWS, an unknown id is no error: the job is missing in the answer.
        with self._changed:
            self._save()
            return {"jobs": [detail(job) for job in map(self._known, ids) if job is not None]}

    def _list_jobs(self, request: type_defs.ListJobsRequestTypeDef) -> Answer:
        with self._changed:
            self._save()
            return page(request, self._listed(request))

    def _cancel_job(self, request: type_defs.TerminateJobRequestTypeDef) -> Answer:
        self._end(request["jobId"], request["reason"], self._engine.cancel)
        return {}

    def _terminate_job(self, request: type_defs.TerminateJobRequestTypeDef) -> Answer:
        self._end(request["jobId"], request["reason"], self._engine.terminate)
        return {}

    def _cancel_jobs(self, request: type_defs.TerminateJobsRequestTypeDef) -> Answer:
        return self._end_all(request, self._engine.cancel)

    def _terminate_jobs(self, request: type_defs.TerminateJobsRequestTypeDef) -> Answer:
        return self._end_all(request, self._engine.terminate)

    def report(self, event: Event) -> None:
        """Process an event from the runner, and start the jobs that can start now."""
        with self._changed:
            if self._closed:
                return
            actions = self._engine.handle(event, self._clock())
            # Without a transaction for each Started: a job in STARTING is lost with the server like one in RUNNING.
            if actions or isinstance(event, Exited):
                self._perform(actions)
            else:
                self._notify()

    def forget(self, job_id: str) -> None:
        """Delete a job and its children. Raise `ClientException` for an unknown job."""
        with self._changed:
            job = self._job(job_id)
            self._engine.forget(job)
            self._store.delete(job)

    def _end_queue(self, queue: str) -> None:
        """End all jobs of a deleted queue, a moment later.

        Batch ends the jobs of a deleted queue "eventually" (AWS Batch API reference, "DeleteJobQueue"). Until then, a
        caller can end them with a reason of its own.
        """
        with self._changed:
            # Those of now: a new queue of the same name may get jobs before the moment has passed.
            jobs = [job for job in self._engine.live_jobs() if job.spec.queue.name == queue]
        if jobs:
            timer = threading.Timer(QUEUE_DELETION, self._end_jobs, [jobs])
            timer.daemon = True
            timer.start()

    def _end_jobs(self, jobs: Iterable[Job]) -> None:
        with self._changed:
            for job in jobs:
                if not (self._closed or job.terminated or job.status.ended):
                    self._perform(self._engine.terminate(job, QUEUE_DELETED, self._clock()))

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state. An array counts as its children."""
        with self._changed:
            self._save()
            jobs = Counter(self._store.ended())
            for job in self._engine.live_jobs():
                jobs.update(job.summary if job.children else {job.status: 1})
        return {status.value: jobs[status] for status in Status}

    @property
    def live(self) -> bool:
        """Whether any job has not ended."""
        with self._changed:
            return self._engine.live

    def close(self) -> None:
        """Kill all running jobs. No further job starts."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # Without the lock: the runner's threads may be about to report, and closing waits for them.
        self._runner.close()
        if self._timekeeper.ident is not None:
            self._timekeeper.join(timeout=5)

    def _listed(self, request: type_defs.ListJobsRequestTypeDef) -> Iterable[Job]:
        """Return the jobs for a ListJobs request."""
        if request.get("arrayJobId"):
            jobs: Iterable[Job] = self._job(request["arrayJobId"]).children
            if request.get("nextToken"):
                jobs = (job for job in jobs if job.order > _position(request["nextToken"]))
        elif request.get("jobQueue"):
            # With a filter, AWS ignores jobStatus and returns jobs in all states.
            if request.get("filters"):
                return (job for job in self._newest(request, "") if matches(job, request["filters"]))
            # Without a status, AWS returns the jobs in RUNNING only.
            return self._newest(request, request.get("jobStatus") or Status.RUNNING)
        else:
            raise ClientException("Exactly one of jobQueue, arrayJobId and multiNodeJobId must be specified")
        return (job for job in jobs if job.status == (request.get("jobStatus") or Status.RUNNING))

    def _newest(self, request: type_defs.ListJobsRequestTypeDef, status: str) -> Iterator[Job]:
        """Yield the jobs of a queue, the newest first, from the position of the request's token."""
        queue, token = request["jobQueue"].rpartition("/")[2], request.get("nextToken")
        before = _position(token) if token else None
        while found := self._store.newest(queue, status, before, PAGE_SIZE):
            # Those in memory know the states of their children.
            yield from (self._engine.jobs.get(job.id, job) for job in found)
            before = found[-1].order

    def _known(self, job_id: str) -> Job | None:
        """Return a job, or None. One that ended long ago is read from the store."""
        if job_id not in self._engine.jobs and (job := self._store.find(job_id)):
            self._engine.make_room()
            self._engine.adopt(job)
        return self._engine.jobs.get(job_id)

    def _job(self, job_id: str) -> Job:
        job = self._known(job_id)
        if job is None:
            raise ClientException(f"Job {job_id} does not exist")
        return job

    def _end(self, job_id: str, reason: str, end: End) -> None:
        if not reason:
            raise ClientException("reason must not be null")
        with self._changed:
            job = self._job(job_id)
            if not job.status.ended:
                self._perform(end(job, reason, self._clock()))

    def _end_all(self, request: type_defs.TerminateJobsRequestTypeDef, end: End) -> Answer:
        ids = request["jobs"]
        if len(ids) > MAX_BULK:
            raise ClientException(f"Number of jobs must be at most {MAX_BULK}")
        successful, errors = [], []
        # A refused job does not prevent the end of the others.
        for job_id in ids:
            try:
                self._end(job_id, request["reason"], end)
                successful.append(job_id)
            except ClientException as error:
                errors.append({"job": job_id, "code": "ClientException", "message": str(error)})
        return {"successful": successful, "errors": errors}

    def _save(self) -> None:
        """Store the changed jobs."""
        if not self._engine.changed:
            return
        try:
            self._store.write(self._engine.changed.values())
        except (OSError, sqlite3.Error):
            # The jobs go on, and the next change stores them again.
            _log.exception("Cannot store the state of %d jobs", len(self._engine.changed))
        else:
            self._engine.changed.clear()

    def _perform(self, actions: Iterable[Action]) -> None:
        # Before the actions: after a crash, an attempt that may have run must count.
        self._save()
        for action in actions:
            if isinstance(action, Start):
                self._runner.start(action.task, self.report)
            else:
                self._runner.stop(action.task_id, kill=action.kill)
        self._notify()

    def _notify(self) -> None:
        if self._next_deadline() < self._due:
            self._changed.notify_all()

    def _next_deadline(self) -> float:
        deadline = self._engine.next_deadline()
        return math.inf if deadline is None else deadline

    def _keep_time(self) -> None:
        with self._changed:
            while not self._closed:
                self._due = self._next_deadline()
                wait = self._due - self._clock()
                # Without a deadline the wait is infinite, and Condition.wait accepts TIMEOUT_MAX at most.
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                else:
                    self._perform(self._engine.tick(self._clock()))


def arn(job: Job) -> str:
    """Return the job's ARN, with the account and region of its queue."""
    return f"{job.spec.queue.arn.partition(':job-queue/')[0]}:job/{job.id}"


def detail(job: Job) -> Answer:
    """Return a job's entry in the answer of DescribeJobs."""
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
            # AWS lists an attempt only after its end.
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


def summary(job: Job) -> Answer:
    """Return a job's entry in the answer of ListJobs."""
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


def _container(job: Job) -> Answer:
    spec, last = job.spec, job.attempts[-1] if job.attempts else None
    return _without_none(
        {
            **spec.container,
            "image": spec.image,
            "command": list(spec.command),
            "environment": [{"name": name, "value": value} for name, value in spec.environment.items()],
            "resourceRequirements": [{"type": kind, "value": value} for kind, value in spec.resources.items()],
            # AWS sends these lists also when they are empty.
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


def _attempt(attempt: Attempt) -> Answer:
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


def _array(job: Job) -> Answer | None:
    # AWS sends a child an empty summary.
    if job.index is not None:
        return {"index": job.index, "statusSummary": {}}
    if job.spec.array_size is None:
        return None
    return {"size": job.spec.array_size, "statusSummary": {status.value: job.summary[status] for status in Status}}


def _retry_strategy(strategy: RetryStrategy) -> Answer:
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


def _dependency(dependency: Dependency) -> Answer:
    return _without_none({"jobId": dependency.job_id, "type": dependency.type or None})


def _without_none(values: Mapping[str, object]) -> Answer:
    return {name: value for name, value in values.items() if value is not None}


def page(request: type_defs.ListJobsRequestTypeDef, jobs: Iterable[Job]) -> Answer:
    """Return one page of ListJobs. The order of ``jobs`` is the order of the answer."""
    size = min(request.get("maxResults") or PAGE_SIZE, FILTERED_PAGE_SIZE if request.get("filters") else PAGE_SIZE)
    entries = list(islice(jobs, size + 1))
    answer: dict[str, object] = {"jobSummaryList": [summary(job) for job in entries[:size]]}
    if len(entries) > size:
        # The token is a position in the order of creation. Jobs that come or go between two pages do not shift it.
        answer["nextToken"] = str(entries[size - 1].order)
    return answer


def _position(token: str) -> int:
    if not token.isdecimal():
        raise ClientException("Invalid nextToken")
    return int(token)


def matches(job: Job, filters: Iterable[type_defs.KeyValuesPairTypeDef]) -> bool:
    """Return whether a job passes the filters of ListJobs (AWS Batch API reference, "ListJobs")."""
    return all(
        any(_matches(job, entry.get("name", ""), value) for value in entry.get("values", ())) for entry in filters
    )


def _matches(job: Job, name: str, value: str) -> bool:
    if name == "JOB_NAME":
        return matches_pattern(value.lower(), job.spec.name.lower())
    if name == "JOB_DEFINITION":
        return value == job.spec.definition or matches_pattern(value, job.spec.definition_name)
    if name == "BEFORE_CREATED_AT":
        return job.created < int(value)
    if name == "AFTER_CREATED_AT":
        return job.created > int(value)
    raise ClientException(
        f"The embedded cloud does not support the ListJobs filter {name}. "
        "Use JOB_NAME, JOB_DEFINITION, BEFORE_CREATED_AT or AFTER_CREATED_AT."
    )
