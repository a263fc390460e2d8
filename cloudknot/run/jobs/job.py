"""BatchJob: one submitted map. Its status, result and logs, in this session or a later one.

Everything but the status and the logs comes from S3, so it outlives Batch's memory of the job.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloudknot.aws import batch, clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.display.progress import Progress, progress_line
from cloudknot.errors import CloudError, CloudknotInputError, ResourceDoesNotExistException
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP
from cloudknot.run.collect.job_failures import never_runs
from cloudknot.run.collect.map_future import MapFuture, ReducedFuture
from cloudknot.run.collect.queue_reasons import explain, only_waits
from cloudknot.run.collect.run_view import ENDED
from cloudknot.run.jobs.reduce import Gathering, start_reduce
from cloudknot.run.jobs.retry import Retrying
from cloudknot.run.submit.rounds import Round, Rounds, first_round, later_rounds
from cloudknot.run.submit.store import discard_run, find_run, manifest_of
from cloudknot.run.submit.submission import Submission, read_record
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import AttemptDetailTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.options.choices import MapOptions

FORGOTTEN = "UNKNOWN"

logger = logging.getLogger("cloudknot")


class BatchJob(Retrying, Gathering):
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
        self._lock = threading.RLock()
        self._is_new = False
        self._last_status: str | None = None

    @classmethod
    def started(cls, cloud: Cloud, first: Round, max_threads: int = 64) -> BatchJob:
        """The job that was just submitted, of which nothing need be read."""
        job = cls.recorded(cloud, first.submission.keys, first.record, max_threads)
        job.rounds = Rounds([first])
        job._is_new = job._may_grow = True
        return job

    @classmethod
    def recorded(cls, cloud: Cloud, keys: RunKeys, record: dict[str, Any], max_threads: int = 64) -> BatchJob:
        """The job of a record of its submission, which need not be read then."""
        job = cls(next(filter(None, record["job_ids"])), cloud=cloud, keys=keys, max_threads=max_threads)
        job.submission = record
        return job

    def __repr__(self) -> str:
        return f"BatchJob({self.job_id!r})"

    @cached_property
    def cloud(self) -> Cloud:
        """Where the job runs, with the bucket that its run is in, whatever the settings name by now."""
        return self._chosen_cloud.in_bucket(self.keys.bucket)

    @cached_property
    def _chosen_cloud(self) -> Cloud:
        return choose_cloud(self._given_cloud)

    @cached_property
    def keys(self) -> RunKeys:
        """Where the run's objects are in S3."""
        return self._given_keys or find_run(self._chosen_cloud, self.job_id)

    @cached_property
    def rounds(self) -> Rounds:
        """How it was submitted: the map, and what was submitted again of it, as far as this session knows."""
        stored = manifest_of(self.cloud, self.keys, self.job_id)
        submission = Submission(self.keys, Manifest.from_json(stored))
        record = self.__dict__.get("submission") or read_record(self.cloud, submission)
        if record is None:
            raise ResourceDoesNotExistException(f"The run {self.keys.url} was not submitted.")
        return Rounds([first_round(submission, record, json.loads(stored))])

    def _refresh(self) -> bool:
        """Look for rounds that other sessions have submitted; whether there are any."""
        with self._lock:
            newer = list(later_rounds(self.cloud, self.keys, self.rounds.newest))
            for each in newer:
                self.rounds.add(each)
            if newer and self._future is not None and self._future.done():
                # It knows the ends of earlier rounds only.
                self._future = None
            return bool(newer)

    def _catch_up(self) -> None:
        """Look for such rounds, unless this session knows that there are none."""
        known = self._future
        knows_all = self._is_new if known is None else not (known.done() and known.elements.without_value)
        if not knows_all:
            self._refresh()

    @cached_property
    def submission(self) -> dict[str, Any]:
        """The record of how it was submitted: job ids, name, queue and job definition."""
        return self.rounds.first.record

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
    def tags(self) -> Mapping[str, str]:
        """The tags that it was submitted with: the knot's, and the one by which cloudknot knows what is its own."""
        return self.rounds.first.about.get("tags") or {}

    @property
    def job_ids(self) -> list[str]:
        """The Batch job's id; with ``job_type="independent"``, one for each element; after a retry, the new job's.

        Of the newest retry, also if another session has asked for it.
        """
        self._catch_up()
        return [job_id for job_id in self.rounds.newest.job_ids if job_id]

    @property
    def status(self) -> str:
        """Batch's state of the job; ``"UNKNOWN"`` once Batch has forgotten an unfinished one.

        Of independent jobs, the state of the one that is furthest behind; FAILED if all ended and one failed. After
        a retry, the state of that. Of a job that Batch has forgotten it is told by the stored results.
        """
        jobs = self.newest_jobs()
        states = {job["status"] for job in jobs}
        if not states:
            return self._status_without_batch()
        return next(state for state in (*batch.LIVE_STATES, "FAILED", "SUCCEEDED") if state in states)

    @property
    def status_reason(self) -> str:
        """Why it is in its state, as far as Batch says; why jobs wait for a machine while none runs, in a sentence."""
        jobs = self.newest_jobs()
        if only_waits(batch.count_states(jobs)):
            return explain(self.name, self.reason_of_waiting())
        return "; ".join(dict.fromkeys(job["statusReason"] for job in jobs if job.get("statusReason")))

    def _status_without_batch(self) -> str:
        """The state of a job that Batch does not know: not yet, or no more."""
        if self._last_status is None:
            stored = sum(location.number for page in self.stored(0) for location, _ in page)
            is_whole = stored >= self.manifest.count
            # Failures are stored as well.
            if not (is_whole and self.all_have_values()):
                return "SUBMITTED" if self.live_jobs() else "FAILED" if is_whole else FORGOTTEN
            self._last_status = "SUCCEEDED"
        return self._last_status

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        # Batch notices the end of a job a little later than its last result can be read.
        known = self._future
        is_known = known is not None and known.done() and not known.elements.any_in(GIVEN_UP, CANCELLED)
        return is_known or self.status in (*ENDED, FORGOTTEN)

    @property
    def attempts(self) -> list[AttemptDetailTypeDef]:
        """Batch's records of the attempts; of an array, of all its children."""
        return [attempt for job in self._described_children() for attempt in job.get("attempts", ())]

    @property
    def log_urls(self) -> list[str]:
        """Where the output of each child's attempts is. Empty for what has not started."""
        return [self.cloud.log_url(stream) for job in self._described_children() for stream in batch.log_streams(job)]

    def _described_children(self) -> Iterator[batch.Job]:
        self._catch_up()
        return iter(self.describe(range(self.rounds.children)).values())

    def logs(self, index: int | None = None) -> Iterator[str]:
        """The lines printed so far, all attempts in order.

        Parameters
        ----------
        index : int, optional
            Only those of the children that have this element: one, and one more for each retry of it. Default: of
            all children, one after the other.
        """
        if index is not None and not 0 <= index < self.manifest.count:
            raise CloudknotInputError(f"index={index} is not an element of this map of {self.manifest.count}.")
        self._catch_up()
        children = range(self.rounds.children) if index is None else self.rounds.all_children_of(index)
        for job in self.describe(children).values():
            for stream in batch.log_streams(job):
                yield from batch.log_lines(clients.logs(self.cloud).get_log_events, stream)

    def _reduce(self, func: Any, requirements: Iterable[str] | None, options: MapOptions) -> MapFuture:
        started = start_reduce(self.cloud, self, func, requirements, options, self.program, self.target)
        job = BatchJob.started(self.cloud, started, options.max_threads)
        job.program, job.target = self.program, self.target
        return job.future(progress_line(job.manifest.knot, 1, options.progress))

    def future(self, progress: Progress | None = None) -> MapFuture:
        """The future of the map's results; of a reduced map, of the one value.

        It is the same one at each call, until what failed is run again, or after it was cancelled, or given up
        because the cloud did not answer: then it is looked for anew.
        """
        with self._lock:
            known = self._future
            ended_badly = known is not None and known.done() and known.elements.without_value > 0
            newer = (ended_badly or known is None) and not self._is_new and self._refresh()
            self._is_new = False
            if known is None or newer or known.elements.any_in(GIVEN_UP, CANCELLED):
                known = self._future = self._new_future(progress, known)
            return known

    def _live_jobs_of_source(self) -> list[str]:
        url = self.manifest.source
        if not url:
            return []
        source = BatchJob(self.manifest.source_job, cloud=self.cloud, keys=RunKeys.parse(url))
        # What was clobbered makes nothing any more, and the job itself tells that its inputs are gone.
        with suppress(ResourceDoesNotExistException):
            return source.live_job_ids()
        return []

    def _new_future(self, progress: Progress | None, earlier: MapFuture | None = None) -> MapFuture:
        how = f"cloudknot.Knot(name={self.manifest.knot!r}).jobs shows it, in any session"
        kind = ReducedFuture if self.manifest.gather else MapFuture
        return kind(self, self.manifest.count, self._max_threads, how, progress, earlier)

    def result(self, timeout: float | None = None) -> Any:
        """The list of results, as `MapFuture.result` gives it; of a reduced map, the one value."""
        return self.future().result(timeout)

    def terminate(self, reason: str) -> None:
        """End the job, or the newest retry of it, with its running children. Results that are stored stay."""
        with self._lock:
            # What is just growing is waited for, and nothing grows afterwards.
            could_grow, self._may_grow = self._may_grow, False
        try:
            batch.terminate(self.cloud.door, self.live_jobs(), reason)
        except BaseException:
            self._may_grow = could_grow
            raise

    def end_stuck(self, endings: Mapping[int, batch.Job]) -> None:
        """Called by the collector: end the job if its queue ended a child that no machine could ever take.

        All children ask for the same. By itself Batch would end one after the other, each after its own ten minutes.
        """
        newest = self.rounds.newest.start
        reasons = [reason for child, job in endings.items() if child >= newest and (reason := never_runs(job))]
        try:
            if reasons:
                self.terminate(reasons[0])
        except CloudError as error:
            logger.warning("The job %s can never run, and could not be ended: %s", self.job_id, error)

    def kill(self, reason: str) -> None:
        """The old name of `terminate`."""
        self.terminate(reason)

    def clobber(self) -> None:
        """End the job and delete its inputs and results. Waits until its children have ended, 40 s at most.

        What was interrupted is finished by calling again.
        """
        with suppress(ResourceDoesNotExistException):
            self.terminate("Clobbered")
            # What is being stopped still stores the results that it has.
            if not self.has_stopped():
                # Another session may just have submitted a retry.
                self.terminate("Clobbered")
                self.has_stopped()
        discard_run(self.cloud, self.keys)
