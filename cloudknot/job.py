"""BatchJob: one submitted map. Its status, result and logs, in this session or a later one.

Everything but the status and the logs comes from S3, so it outlives Batch's memory of the job.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudknot.aws import batch
from cloudknot.clouds import choose_cloud
from cloudknot.dependencies import failed_before
from cloudknot.errors import CloudknotInputError, ResourceDoesNotExistException
from cloudknot.futures import MapFuture, ReducedFuture
from cloudknot.gathering import Gathering, start_reduce
from cloudknot.keywords import discard_unused
from cloudknot.listing import Listed, oldest_first
from cloudknot.outcomes import Place
from cloudknot.progress import Progress, progress_line
from cloudknot.runs import find_run
from cloudknot.submission import Submission, read_record
from cloudknot.worker.protocol import Location, Manifest, RunKeys

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.options import MapOptions
    from cloudknot.run import Started

ENDED = ("SUCCEEDED", "FAILED")
FORGOTTEN = "UNKNOWN"
NOTE_TIME = timedelta(minutes=5)
"""Descriptions in AWS may lag behind what was just made."""


class BatchJob(Gathering):
    """One submitted map.

    Parameters
    ----------
    job_id : str
        Batch's id of the job.
    cloud : Cloud or str, optional
        Default: the settings'.
    keys : RunKeys, optional
        Where the run's objects are; looked up by the id when it is not given.
    max_threads : int, optional
        Results fetched at once. Default 64.

    Raises
    ------
    ResourceDoesNotExistException
        On first use, if cloudknot did not submit a job of that id.
    """

    def __init__(
        self, job_id: str, *, cloud: Cloud | str | None = None, keys: RunKeys | None = None, max_threads: int = 64
    ) -> None:
        self.job_id = job_id
        self._given_cloud, self._given_keys, self._max_threads = cloud, keys, max_threads
        self.states: Mapping[str, int] = {}
        self._future: MapFuture | None = None
        self._future_lock = threading.Lock()

    @classmethod
    def recorded(
        cls,
        cloud: Cloud,
        keys: RunKeys,
        submission: dict[str, Any],
        manifest: Manifest | None = None,
        max_threads: int = 64,
    ) -> BatchJob:
        """The job of a record of its submission, which need not be read then; nor the manifest, if given."""
        job = cls(next(filter(None, submission["job_ids"])), cloud=cloud, keys=keys, max_threads=max_threads)
        job.submission = submission
        if manifest is not None:
            job.manifest = manifest
        return job

    @classmethod
    def started(cls, cloud: Cloud, started: Started, max_threads: int = 64) -> BatchJob:
        """The job of a run that was just submitted."""
        return cls.recorded(cloud, started.keys, started.record, started.manifest, max_threads)

    def __repr__(self) -> str:
        return f"BatchJob({self.job_id!r})"

    @cached_property
    def cloud(self) -> Cloud:
        """Where the job runs."""
        return choose_cloud(self._given_cloud)

    @cached_property
    def keys(self) -> RunKeys:
        """Where the run's objects are in S3."""
        return self._given_keys or find_run(self.cloud, self.job_id)

    @cached_property
    def manifest(self) -> Manifest:
        """What was submitted."""
        return Manifest.from_json(self.cloud.storage.get(self.keys.manifest))

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """What `map` was given for this job alone: ``overrides``, ``env_vars`` and ``depends_on``.

        The last holds, for each job, what SubmitJob was given.
        """
        stored = json.loads(self.cloud.storage.get(self.keys.manifest))
        return {name: stored.get(name) or {} for name in ("overrides", "env_vars", "depends_on")}

    @cached_property
    def submission(self) -> dict[str, Any]:
        """How it was submitted: job ids, name, queue and job definition."""
        record = read_record(self.cloud, Submission(self.keys, self.manifest))
        if record is None:
            raise ResourceDoesNotExistException(f"The run {self.keys.url} was not submitted.")
        return record

    @property
    def name(self) -> str:
        """Batch's name of the job."""
        return str(self.submission["name"])

    @property
    def job_queue(self) -> str:
        """ARN of the queue."""
        return str(self.submission["job_queue"])

    @property
    def job_definition(self) -> str:
        """ARN of the job definition's revision: it stays the one the job was submitted with."""
        return str(self.submission["job_definition"])

    @property
    def job_ids(self) -> list[str]:
        """The Batch job's id; with ``job_type="independent"``, one id for each element."""
        return list(self.submission["job_ids"])

    def describe_jobs(self) -> list[batch.Job]:
        """Batch's descriptions of the jobs of `job_ids` that it still knows."""
        return batch.describe_jobs(self.cloud.door, self.job_ids)

    def live_job_ids(self) -> list[str]:
        """Those of `job_ids` that have not ended, or that Batch has not had the time to take note of."""
        states = {job["jobId"]: job["status"] for job in self.describe_jobs()}
        unknown = FORGOTTEN if self._is_old() else "SUBMITTED"
        return [job_id for job_id in self.job_ids if states.get(job_id, unknown) not in (*ENDED, FORGOTTEN)]

    def waited_for(self, child: int) -> str:
        """The jobs that a child's job waited for and that failed, in words; empty when none is known."""
        return failed_before(self.cloud.door, self.chosen["depends_on"], child)

    @property
    def status(self) -> str:
        """Batch's state of the job; ``"UNKNOWN"`` once Batch has forgotten an unfinished one.

        Of independent jobs, the state of the one that is furthest behind; FAILED if all ended and one failed.
        """
        states = {job["status"] for job in self.describe_jobs()}
        if not states:
            return "SUCCEEDED" if self._all_stored() else FORGOTTEN
        return next(state for state in (*batch.LIVE_STATES, "FAILED", "SUCCEEDED") if state in states)

    def _all_stored(self) -> bool:
        return sum(location.number for page in self.stored(0) for location, _ in page) >= self.manifest.count

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        # Batch notices the end of a job a little later than its last result can be read.
        return (self._future is not None and self._future.done()) or self.status in (*ENDED, FORGOTTEN)

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Batch's records of the attempts; of an array, of all its children."""
        return [attempt for job in self._described_children() for attempt in job.get("attempts", ())]

    @property
    def log_urls(self) -> list[str]:
        """Where the output of each child's attempts is. Empty for what has not started."""
        return [self.cloud.log_url(stream) for job in self._described_children() for stream in batch.log_streams(job)]

    def _described_children(self) -> Iterator[batch.Job]:
        return iter(self.describe(range(self.manifest.children)).values())

    def logs(self, index: int | None = None) -> Iterator[str]:
        """The lines printed so far, all attempts in order.

        Parameters
        ----------
        index : int, optional
            Only those of the child that has this element. Default: of all children, one after the other.
        """
        if index is not None and not 0 <= index < self.manifest.count:
            raise CloudknotInputError(f"index={index} is not an element of this map of {self.manifest.count}.")
        children = range(self.manifest.children) if index is None else [self.child_of(index)]
        for job in self.describe(children).values():
            for stream in batch.log_streams(job):
                yield from batch.log_lines(partial(self.cloud.call, "logs", "get_log_events"), stream)

    def _reduce(self, func: Any, requirements: Iterable[str] | None, options: MapOptions) -> MapFuture:
        started = start_reduce(self.cloud, self, func, requirements, options, self.program, self.target)
        job = BatchJob.started(self.cloud, started, options.max_threads)
        job.program, job.target = self.program, self.target
        return job.future(progress_line(started.manifest.knot, 1, options.progress))

    def future(self, progress: Progress | None = None) -> MapFuture:
        """The future of the map's results, the same one at each call; of a reduced map, of the one value."""
        with self._future_lock:
            if self._future is None:
                how = f"cloudknot.Knot(name={self.manifest.knot!r}).jobs shows it, in any session"
                kind = ReducedFuture if self.manifest.gather else MapFuture
                self._future = kind(self, self.manifest.count, self._max_threads, how, progress)
            return self._future

    def result(self, timeout: float | None = None) -> Any:
        """The list of results, as `MapFuture.result` gives it; of a reduced map, the one value."""
        return self.future().result(timeout)

    def terminate(self, reason: str) -> None:
        """End the job and its running children. Results that are stored stay."""
        live = [job for job in self.describe_jobs() if job["status"] not in ENDED]
        batch.terminate(self.cloud.door, live, reason)

    def kill(self, reason: str) -> None:
        """The old name of `terminate`."""
        self.terminate(reason)

    def clobber(self) -> None:
        """End the job and delete its inputs and results."""
        self.terminate("Clobbered")
        manifest = self.manifest
        self.cloud.storage.delete_prefix(f"{self.keys.prefix}/")
        discard_unused(self.cloud.storage, manifest.knot, manifest.kwargs)

    # What follows is called by the collector and by the map's future.

    @property
    def patience(self) -> float:
        """Seconds that the cloud may stay silent before its jobs are given up."""
        return self.cloud.patience

    def stored(self, element: int) -> Iterator[list[tuple[Location, int]]]:
        """The stored packs and their sizes, by pages, in order; all that may have ``element`` or a later one."""
        after = self.keys.output(self.chunk(self.child_of(element)).start, 0)
        pages = self.cloud.storage.pages(self.keys.outputs, after=after)
        return oldest_first(
            [Listed(self.keys.parse_output(each.key), each.size, each.modified) for each in page] for page in pages
        )

    def read(self, location: Location, start: int = 0, end: int | None = None) -> bytes:
        """Bytes of a pack, from ``start`` to ``end`` (not included)."""
        return self.cloud.storage.get(self.keys.output(*location), start, end)

    def open(self, location: Location, start: int, end: int | None) -> BinaryIO:
        """The same, as a file that is read as it comes."""
        return self.cloud.storage.open(self.keys.output(*location), start, end)

    def chunk(self, child: int) -> range:
        """The elements of a child."""
        return self.manifest.chunk(child)

    def child_of(self, element: int) -> int:
        """The child of an element."""
        return self.manifest.child_of(element)

    def poll(self, known: set[int]) -> tuple[set[int], bool]:
        """The children that failed, besides those in ``known``, and whether the whole job has ended."""
        jobs = self.describe_jobs()
        ended = all(job["status"] in ENDED for job in jobs) and (bool(jobs) or self._is_old())
        self.states = batch.count_states(jobs)
        if len(self.job_ids) > 1:
            numbers = {job_id: child for child, job_id in enumerate(self.job_ids)}
            return {numbers[job["jobId"]] for job in jobs if job["status"] == "FAILED"} - known, ended
        summary = jobs[0].get("arrayProperties", {}).get("statusSummary", {}) if jobs else {}
        if ended or summary.get("FAILED", 0) <= len(known):
            return set(), ended
        failed = batch.list_children(self.cloud.door, self.job_id, "FAILED")
        return {child["arrayProperties"]["index"] for child in failed} - known, ended

    def reason_of_waiting(self) -> str:
        """Batch's reason why one of the jobs stays in RUNNABLE; empty when it gives none."""
        return batch.reason_of_waiting(self.cloud.door, self.job_ids, array=self.manifest.children > len(self.job_ids))

    def _is_old(self) -> bool:
        """Whether Batch has had time to take note of the job: not to know it then means to have forgotten it."""
        return datetime.now(UTC) - datetime.fromisoformat(self.manifest.created) > NOTE_TIME

    def describe(self, children: Iterable[int]) -> dict[int, batch.Job]:
        """Batch's descriptions of children; an empty one where Batch knows a child no more."""
        ids = {child: self.child_id(child) for child in children}
        found = {job["jobId"]: job for job in batch.describe_jobs(self.cloud.door, list(ids.values()))}
        return {child: found.get(job_id, {}) for child, job_id in ids.items()}

    def child_id(self, child: int) -> str:
        """Batch's id of a child; of a plain job, the job's own."""
        if len(self.job_ids) > 1:
            return self.job_ids[child]
        return f"{self.job_id}:{child}" if self.manifest.children > 1 else self.job_id

    def place(self, index: int) -> Place:
        """Where an element runs."""
        return Place(index, self.child_id(self.child_of(index)))

    def log_url(self, stream: batch.LogStream) -> str:
        """Where a person can read a log stream."""
        return self.cloud.log_url(stream)
