"""The jobs of Batch in the cloud's database, so that they survive the end of the server process.

A job has a row. A child of an array has one when its first attempt starts, or when it ends without one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from cloudknot.local.batch.attempts import log_stream
from cloudknot.local.batch.records import (
    Attempt,
    Dependency,
    ExitRule,
    Job,
    JobSpec,
    Queue,
    RetryStrategy,
    Status,
    TimeLimit,
    add_children,
)
from cloudknot.local.directory.database import Database

RETENTION = 24 * 3600 * 1000
"""Milliseconds for which DescribeJobs and ListJobs show an ended job."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, size INTEGER NOT NULL,
    created INTEGER NOT NULL, spec TEXT NOT NULL,
    status TEXT NOT NULL, stopped INTEGER, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, state TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_jobs_by_queue ON batch_jobs (queue, number);
CREATE INDEX IF NOT EXISTS batch_jobs_by_end ON batch_jobs (stopped);
CREATE TABLE IF NOT EXISTS batch_children (
    job INTEGER NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""
_INSERT_JOB = """
INSERT INTO batch_jobs (number, id, queue, size, created, spec, status, stopped, succeeded, failed, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE_JOB = "UPDATE batch_jobs SET status = ?, stopped = ?, succeeded = ?, failed = ?, state = ? WHERE number = ?"
_NAMES = ("status", "reason", "started", "stopped", "stop_reason", "cancelled", "terminated")
_OF_JOB = attrgetter(*_NAMES)
# Without the name of the log stream, which follows from the task.
_OF_ATTEMPT = attrgetter("task_id", "started", "stopped", "exit_code", "reason", "status_reason")
# `json.dumps` with these separators would make an encoder for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_DELETE = (
    "DELETE FROM batch_children WHERE job IN (SELECT number FROM batch_jobs WHERE {condition})",
    "DELETE FROM batch_jobs WHERE {condition}",
)


class JobStore:
    """The stored jobs of one cloud.

    Parameters
    ----------
    database : Database
        Has the tables of `SCHEMA`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_number(self) -> int:
        """Return the first free position in the order of creation."""
        ((number,),) = self._database.rows("SELECT coalesce(max(number + size), -1) + 1 FROM batch_jobs")
        return int(number)

    def add(self, job: Job, jobs: Iterable[Job]) -> None:
        """Store a new job, and other changed jobs. They also survive a power cut."""
        with self._database.transaction(is_synced=True) as connection:
            size, spec = job.spec.array_size or 0, json.dumps(asdict(job.spec))
            connection.execute(
                _INSERT_JOB, (job.order, job.id, job.spec.queue.name, size, job.created, spec, *_changeable(job))
            )
            _write(connection, (changed for changed in jobs if changed is not job))

    def write(self, jobs: Iterable[Job]) -> None:
        """Store changed jobs. They survive the end of this process."""
        with self._database.transaction() as connection:
            _write(connection, jobs)

    def live(self) -> list[Job]:
        """Return the jobs that have not ended, with the children of arrays, in the order of their creation."""
        return [self._whole(job) for job in self._read("stopped IS NULL ORDER BY number")]

    def find(self, job_id: str) -> Job | None:
        """Return the job with an id, or the parent of a child with that id; None if there is none."""
        found = self._read("id = ?", job_id.partition(":")[0])
        return self._whole(found[0]) if found else None

    def newest(self, queue: str, status: str, before: int | None, limit: int) -> list[Job]:
        """Return the newest jobs of a queue, arrays without their children.

        ``status`` is empty for all states. ``before`` is a position in the order of creation, or None.
        """
        wanted = ("AND status = ?", [status]) if status else ("", [])
        condition = f"queue = ? AND number < ? {wanted[0]} ORDER BY number DESC LIMIT ?"
        return self._read(condition, queue, (1 << 62) if before is None else before, *wanted[1], limit)

    def ended(self) -> dict[Status, int]:
        """Return the number of succeeded and failed jobs. An ended array counts as its children."""
        statement = "SELECT coalesce(sum(succeeded), 0), coalesce(sum(failed), 0) FROM batch_jobs"
        ((succeeded, failed),) = self._database.rows(f"{statement} WHERE stopped IS NOT NULL")
        return {Status.SUCCEEDED: succeeded, Status.FAILED: failed}

    def delete(self, job: Job) -> None:
        """Delete a job and its children."""
        self._delete("number = ?", job.order)

    def delete_old(self, now: int) -> None:
        """Delete the jobs that ended more than a day before ``now``."""
        if self._database.rows("SELECT 1 FROM batch_jobs WHERE stopped < ? LIMIT 1", now - RETENTION):
            self._delete("stopped < ?", now - RETENTION)

    def _delete(self, condition: str, value: int) -> None:
        with self._database.transaction() as connection:
            for statement in _DELETE:
                connection.execute(statement.format(condition=condition), (value,))

    def _read(self, condition: str, *values: object) -> list[Job]:
        """Return jobs without children, but with the number of succeeded and failed ones."""
        jobs = []
        statement = f"SELECT number, id, created, spec, succeeded, failed, state FROM batch_jobs WHERE {condition}"
        for number, job_id, created, spec, succeeded, failed, state in self._database.rows(statement, *values):
            job = Job(job_id, _spec(json.loads(spec)), number, created)
            job.summary.update({Status.SUCCEEDED: succeeded, Status.FAILED: failed})
            _restore(job, state)
            jobs.append(job)
        return jobs

    def _whole(self, job: Job) -> Job:
        """Return a job with the children of an array."""
        if job.spec.array_size is None:
            return job
        add_children(job)
        for number, state in self._database.rows("SELECT number, state FROM batch_children WHERE job = ?", job.order):
            child = job.children[number]
            job.summary[child.status] -= 1
            _restore(child, state)
            job.summary[child.status] += 1
        return job


def _write(connection: sqlite3.Connection, jobs: Iterable[Job]) -> None:
    children = []
    for job in jobs:
        if job.parent is not None:
            children.append((job.parent.order, job.index, _state(job)))
        else:
            connection.execute(_UPDATE_JOB, (*_changeable(job), job.order))
    connection.executemany("INSERT OR REPLACE INTO batch_children VALUES (?, ?, ?)", children)


def _changeable(job: Job) -> tuple[object, ...]:
    if job.children:
        counts = job.summary[Status.SUCCEEDED], job.summary[Status.FAILED]
    else:
        counts = int(job.status is Status.SUCCEEDED), int(job.status is Status.FAILED)
    return job.status, job.stopped, *counts, _state(job)


def _state(job: Job) -> str:
    """Return the changeable part of a job as JSON. Lists without names, because there are many."""
    return _encode((*_OF_JOB(job), [_OF_ATTEMPT(attempt) for attempt in job.attempts]))


def _restore(job: Job, state: str) -> None:
    """Give a new job its stored state."""
    status, *values, attempts = json.loads(state)
    job.status = Status(status)
    for name, value in zip(_NAMES[1:], values, strict=True):
        setattr(job, name, value)
    job.attempts = [Attempt(task_id, log_stream(job.spec, task_id), *rest) for task_id, *rest in attempts]


def _spec(stored: dict[str, Any]) -> JobSpec:
    queue, retry = stored["queue"], stored["retry"]
    limits = tuple(TimeLimit(**limit) for limit in queue["time_limits"])
    rules = tuple(ExitRule(**rule) for rule in retry["rules"])
    made = {
        "queue": Queue(**{**queue, "time_limits": limits}),
        "retry": RetryStrategy(**{**retry, "rules": rules}),
        "depends_on": tuple(Dependency(**dependency) for dependency in stored["depends_on"]),
        "command": tuple(stored["command"]),
    }
    return JobSpec(**{**stored, **made})
