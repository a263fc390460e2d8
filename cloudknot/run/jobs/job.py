"""BatchJob: one submitted map. Its status, result and logs, in this session or a later one.

Everything but the status and the logs comes from S3, so it outlives Batch's memory of the job. A job has a run, which
it reads on first use, a view of it, and a future.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloudknot.aws import batch, clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.display.progress import Progress, progress_line
from cloudknot.errors import CloudknotInputError, JobRunningError, ResourceDoesNotExistException
from cloudknot.options.choices import MapOptions, RetryOptions
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP
from cloudknot.run.collect.map_future import Collection, MapFuture, collect
from cloudknot.run.collect.map_status import explain, only_waits
from cloudknot.run.collect.run_view import ENDED, RunView
from cloudknot.run.jobs.reduce import Reduce
from cloudknot.run.jobs.retry import Retry
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.rounds import Run, open_run
from cloudknot.run.submit.stored_runs import discard_run, find_run
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import AttemptDetailTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.program.program import Program
    from cloudknot.run.submit.start_run import Target

FORGOTTEN = "UNKNOWN"
"""The status of a job that has not ended by its results, and that Batch has forgotten."""


class BatchJob:
    """A submitted map. ``await job`` returns its result.

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
        self._given_record: Record | None = None
        self._program: Program | None = None
        self._target: Target | None = None
        self._opening = threading.Lock()
        self._opened: tuple[RunView, Retry] | None = None
        self._collection: Collection | None = None
        self._is_new = False
        self._last_status: str | None = None

    def __repr__(self) -> str:
        return f"BatchJob({self.job_id!r})"

    @cached_property
    def _cloud(self) -> Cloud:
        """The cloud of the job, with the bucket that its run is in, whatever the settings name by now."""
        return self._chosen_cloud.in_bucket(self.keys.bucket)

    @cached_property
    def _chosen_cloud(self) -> Cloud:
        return choose_cloud(self._given_cloud)

    @cached_property
    def keys(self) -> RunKeys:
        """Where the run's objects are in S3; ``keys.url`` is its address."""
        return self._given_keys or find_run(self._chosen_cloud, self.job_id)

    def _open(self) -> tuple[RunView, Retry]:
        """Read the run, on first use."""
        if self._opened is None:
            cloud, keys = self._cloud, self.keys
            with self._opening:
                if self._opened is None:
                    self._set_run(cloud, open_run(cloud, keys, self.job_id, self._given_record))
        assert self._opened is not None
        return self._opened

    def _set_run(self, cloud: Cloud, run: Run, grows: bool = False) -> None:
        view = RunView(cloud, run)
        self._opened = view, Retry(run, view, grows)

    @property
    def _view(self) -> RunView:
        return self._open()[0]

    @property
    def _retry(self) -> Retry:
        return self._open()[1]

    @property
    def _run(self) -> Run:
        return self._view.run

    @property
    def _record(self) -> Record:
        """The record of its submission, which may be known without the rest of the run."""
        return self._given_record or self._run.rounds.first.record

    @property
    def manifest(self) -> Manifest:
        """The stored description of the map."""
        return self._run.manifest

    @property
    def name(self) -> str:
        """Batch's name of the job."""
        return self._record["name"]

    @property
    def job_queue(self) -> str:
        """ARN of the queue."""
        return self._record["job_queue"]

    @property
    def job_definition(self) -> str:
        """ARN of the job definition's revision: it stays the one the job was submitted with."""
        return self._record["job_definition"]

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that it was submitted with: the knot's, and the one by which cloudknot knows what is its own."""
        return self._run.tags

    @property
    def states(self) -> Mapping[str, int]:
        """Number of child jobs in each of Batch's states, when a future of this job asked last."""
        return self._opened[0].states if self._opened else {}

    @property
    def job_ids(self) -> list[str]:
        """The Batch job's id; with ``job_type="independent"``, one for each element; after a retry, the new job's.

        Of the newest retry, also if another session has asked for it.
        """
        self._catch_up()
        return self._run.newest_job_ids

    def _catch_up(self) -> None:
        """Look for rounds of other sessions, unless this session knows that there are none."""
        known = self._known()
        knows_all = self._is_new if known is None else not (known.ended and known.table.without_value)
        if not knows_all:
            self._view.refresh()

    @property
    def status(self) -> str:
        """Batch's state of the job; ``"UNKNOWN"`` once Batch has forgotten an unfinished one.

        Of independent jobs, the state of the one that is furthest behind; FAILED if all ended and one failed. After
        a retry, the state of that. Of a job that Batch has forgotten it is told by the stored results.
        """
        jobs = self._view.newest_jobs()
        states = {job["status"] for job in jobs}
        if not states:
            return self._status_without_batch()
        return next(state for state in (*batch.LIVE_STATES, "FAILED", "SUCCEEDED") if state in states)

    @property
    def status_reason(self) -> str:
        """Why it is in its state, as far as Batch says; why jobs wait for a machine while none runs, in a sentence."""
        jobs = self._view.newest_jobs()
        if only_waits(batch.count_states(jobs)):
            return explain(self.name, self._view.reason_of_waiting())
        return "; ".join(dict.fromkeys(job["statusReason"] for job in jobs if job.get("statusReason")))

    def _status_without_batch(self) -> str:
        """The state of a job that Batch does not know: not yet, or no more."""
        if self._last_status is None:
            view = self._view
            stored = sum(location.number for page in view.stored(0) for location, _ in page)
            is_whole = stored >= self.manifest.count
            # Failures are stored as well.
            if not (is_whole and view.all_have_values()):
                return "SUBMITTED" if view.live_jobs() else "FAILED" if is_whole else FORGOTTEN
            self._last_status = "SUCCEEDED"
        return self._last_status

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        # Batch notices the end of a job a little later than its last result can be read.
        known = self._known()
        is_known = known is not None and known.ended and not known.table.any_in(GIVEN_UP, CANCELLED)
        return is_known or self.status in (*ENDED, FORGOTTEN)

    @property
    def attempts(self) -> list[AttemptDetailTypeDef]:
        """Batch's records of the attempts; of an array, of all its children."""
        return [attempt for job in self._described_children() for attempt in job.get("attempts", ())]

    @property
    def log_urls(self) -> list[str]:
        """Where the output of each child's attempts is. Empty for what has not started."""
        return [self._cloud.log_url(stream) for job in self._described_children() for stream in batch.log_streams(job)]

    def _described_children(self) -> Iterator[batch.Job]:
        self._catch_up()
        return iter(self._view.describe(range(self._run.rounds.children)).values())

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
        children = range(self._run.rounds.children) if index is None else self._run.rounds.children_of(index)
        for job in self._view.describe(children).values():
            for stream in batch.log_streams(job):
                yield from batch.log_lines(clients.logs(self._cloud).get_log_events, stream)

    def future(self, progress: Progress | None = None) -> MapFuture:
        """The future of the map's results; of a reduced map, of the one value.

        It is the same one at each call, until what failed is run again, or after it was cancelled, or given up
        because the cloud did not answer: then it is looked for anew.
        """
        return self._collected(progress).future

    def _collected(self, progress: Progress | None = None) -> Collection:
        with self._view.lock:
            known = self._known()
            ended_badly = known is not None and known.ended and known.table.without_value > 0
            newer = (ended_badly or known is None) and not self._is_new and self._view.refresh()
            self._is_new = False
            if known is None or newer or known.table.any_in(GIVEN_UP, CANCELLED):
                known = self._collection = self._collect(progress, known)
            return known

    def _known(self) -> Collection | None:
        """The collection of this session's future; None if that ended before a round that is known by now."""
        known = self._collection
        is_outdated = known is not None and known.ended and known.collector.round < self._view.newest_round
        return None if is_outdated else known

    def _collect(self, progress: Progress | None = None, earlier: Collection | None = None) -> Collection:
        view, retry = self._open()
        how = f"cloudknot.Knot(name={self.manifest.knot!r}).jobs shows it, in any session"
        return collect(
            view,
            retry,
            self,
            max_threads=self._max_threads,
            how_to_return=how,
            progress=progress,
            earlier=earlier,
        )

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result in a coroutine, as ``await job.future()`` does."""
        return self._arrival().__await__()

    async def _arrival(self) -> Any:
        from asyncio import to_thread

        return await (await to_thread(self.future))

    def result(self, timeout: float | None = None) -> Any:
        """The list of results, as `MapFuture.result` gives it; of a reduced map, the one value."""
        return self.future().result(timeout)

    def retry_failed(
        self,
        memory: int | None = None,
        timeout: int | None = None,
        vcpus: int | None = None,
        retries: int | None = None,
        *,
        chunksize: int | None = None,
        progress: bool | None = None,
    ) -> MapFuture:
        """Run the elements again that have no result, in a new Batch job of the same program.

        What has a result is not computed again. Nothing is submitted when nothing failed. Where the inputs are another
        map's results, and that map or a retry of it runs, the new job waits for it.

        Parameters
        ----------
        memory, timeout, vcpus, retries : int, optional
            As `Knot.map` has them. Default: those of the last time; for a job that ran out of memory, of a knot
            with ``memory_growth``, so many times as much memory.
        chunksize : int, optional
            Elements that one child job handles, as many as in the map at most. Default: the map's; if nobody gave one
            there, or a process had died, a thousandth of those that failed, so that what ends its process takes few
            others along, and none if up to 1,000 failed.
        progress : bool, optional
            As `Knot.map` has it.

        Returns
        -------
        MapFuture
            Of the same full list; also what `future` gives from now on.

        Raises
        ------
        CloudknotInputError
            An argument is not accepted, or the new job would wait for more than 20 others. Nothing was submitted.
        JobRunningError
            The job has not ended, or another session is just submitting a retry. Nothing was submitted.
        ResourceDoesNotExistException
            The job was clobbered. Nothing was submitted.
        """
        given = {"memory": memory, "timeout": timeout, "vcpus": vcpus, "retries": retries}
        RetryOptions.make(**given, chunksize=chunksize, progress=progress)
        while True:
            # Without the lock: whoever is waited for may need it.
            ended = self._ended()
            with self._view.lock:
                if ended is self._known():
                    if ended.table.without_value:
                        self._retry.submit(ended.table, given, chunksize)
                        line = progress_line(self.manifest.knot, self.manifest.count, progress)
                        ended = self._collection = self._collect(line, ended)
                    return ended.future

    def _ended(self) -> Collection:
        """Wait until all that has become of the elements is known.

        A map that was cancelled, or given up when the cloud was silent, may have more results than its future knows.
        """
        collected = self._collected()
        # An element's end is known a moment before the map's own.
        if not collected.collector.complete() or collected.table.any_in(CANCELLED):
            if not self._view.has_stopped():
                raise JobRunningError(
                    f"The job {self.job_id} still runs, so what fails of it is not known yet. Nothing was submitted. "
                    "Wait for its result, or end it with terminate(reason), and call again."
                )
            with self._view.lock:
                if collected.future.cancelled() and collected is self._known():
                    self._collection = self._collect()
                collected = self._known() or collected
            collected.future.exception()
        if collected.table.any_in(GIVEN_UP):
            # What has no answer may have a result: to run it again might be to pay twice.
            error = collected.table.given_up_with
            error.add_note("Nothing was submitted.")
            raise error
        return collected

    def reduce(
        self,
        func: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        env_vars: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        requirements: Iterable[str] | None = None,
        progress: bool | None = None,
        memory: int | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
    ) -> MapFuture:
        """Call a function once with the list of all results, in a job of its own that waits for the map.

        Parameters
        ----------
        func : callable or Knot
            Called as ``func(results, **kwargs)``. It travels by value and runs in the image of the map, which must
            have what it imports; or the function of a Knot, in that one's image.
        kwargs, env_vars, progress, memory, vcpus, timeout, retries : optional
            As of `Knot.map`. The job holds all results in memory.
        requirements : sequence of str, optional
            What the function needs, as pip takes it, in place of what is found; ``[]`` if the image has it all.

        Returns
        -------
        ReducedFuture
            Its result is what the function returned.

        Raises
        ------
        CloudknotInputError
            The function cannot be called so, or needs what the image does not have. Nothing was submitted.
        """
        options = MapOptions.of_map(
            kwargs=kwargs,
            env_vars=env_vars,
            progress=progress,
            memory=memory,
            vcpus=vcpus,
            timeout=timeout,
            retries=retries,
        )
        by_knot: Callable[[Source, MapOptions], MapFuture] | None = getattr(func, "_gather", None)
        if by_knot is not None:
            return by_knot(self._source(gather=True), options)
        run = Reduce(self._run, self._view, self._program, self._target).submit(func, requirements, options)
        job = started_job(self._cloud, run, options.max_threads, self._program, self._target)
        return job.future(progress_line(run.manifest.knot, 1, options.progress))

    def _source(self, gather: bool = False) -> Source:
        """Its results as the inputs of another map."""
        return Source(self._run, self._view.live_job_ids, gather)

    def terminate(self, reason: str) -> None:
        """End the job, or the newest retry of it, with its running children. Results that are stored stay."""
        with self._retry.stopped():
            batch.terminate(self._cloud.door, self._view.live_jobs(), reason)

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
            if not self._view.has_stopped():
                # Another session may just have submitted a retry.
                self.terminate("Clobbered")
                self._view.has_stopped()
        discard_run(self._cloud, self.keys)


def started_job(
    cloud: Cloud, run: Run, max_threads: int = 64, program: Program | None = None, target: Target | None = None
) -> BatchJob:
    """Return the job of a run that this session has just submitted, of which nothing need be read."""
    job = recorded_job(cloud, run.keys, run.rounds.first.record, max_threads)
    job._program, job._target, job._is_new = program, target, True
    job._set_run(cloud.in_bucket(run.keys.bucket), run, grows=True)
    return job


def recorded_job(cloud: Cloud, keys: RunKeys, record: Record, max_threads: int = 64) -> BatchJob:
    """Return the job of a record of its submission, which need not be read then."""
    job = BatchJob(next(filter(None, record["job_ids"])), cloud=cloud, keys=keys, max_threads=max_threads)
    job._given_record = record
    return job
