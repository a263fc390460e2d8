"""BatchJob: the status, results and logs of one submitted map, in this session or a later one.

Batch forgets a job some days after its end. All data but the status and the logs comes from S3, and lasts longer.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from cloudknot.aws import batch
from cloudknot.aws.cloud import Cloud, choose_cloud
from cloudknot.aws.sdk import forks
from cloudknot.display.progress import Progress, Snapshot, progress_line
from cloudknot.display.summaries import Summary, safely, summary_of_jobs, summary_of_map
from cloudknot.errors import ResourceDoesNotExistException, refuse
from cloudknot.options.choices import MapOptions, RetryOptions
from cloudknot.options.public import public
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP
from cloudknot.run.collect.map_future import MapFuture
from cloudknot.run.collect.map_status import explain, only_waits
from cloudknot.run.collect.run_view import ENDED, RunView
from cloudknot.run.jobs.collection import JobCollection
from cloudknot.run.jobs.glance import Glance
from cloudknot.run.jobs.job_inputs import stored_elements
from cloudknot.run.jobs.job_state import FORGOTTEN, JobState, state_of_stored
from cloudknot.run.jobs.output import Output
from cloudknot.run.jobs.reduce import Reduce
from cloudknot.run.jobs.retries.retry import Retry
from cloudknot.run.jobs.retries.successor import successor_of
from cloudknot.run.jobs.retries.uses import FunctionUse, function_uses
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.ids import run_time
from cloudknot.run.submit.rounds import Run, open_run
from cloudknot.run.submit.stored_runs import check_discarding, discard_run, find_run
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import AttemptDetailTypeDef

    from cloudknot.program.program import Program
    from cloudknot.run.collect.element_table import ElementTable
    from cloudknot.run.submit.start_run import Target


@public
class BatchJob:
    """A submitted map: its status, results, logs and retries, in any session.

    ``job.result()`` and ``await job`` return the list of results. Creating a `BatchJob` makes no AWS calls; the run is
    read on first use.

    Parameters
    ----------
    job_id : str
        The id of the job in Batch, as in ``future.job.job_id`` or the table of ``Knot.view_jobs()``.
    cloud : Cloud or {"aws", "local"}, optional
        The cloud that runs the job. Default: the cloud of the current settings.
    keys : RunKeys, optional
        The location of the run in S3. Default: cloudknot finds it by the job id.
    max_threads : int, default 64
        Number of packs to read at the same time.

    Raises
    ------
    ResourceDoesNotExistException
        On first use, if cloudknot did not submit a job with this id, or the run was deleted.
    """

    def __init__(
        self, job_id: str, *, cloud: Cloud | str | None = None, keys: RunKeys | None = None, max_threads: int = 64
    ) -> None:
        self.job_id = job_id
        self._cloud_argument, self._keys_argument = cloud, keys
        self._stored_record: Record | None = None
        self._program: Program | None = None
        self._target: Target | None = None
        self._opening = forks.renewed(threading.Lock())
        self._opened: tuple[RunView, Retry] | None = None
        self._collection = JobCollection(self, self._open, max_threads)
        self._last_status: str | None = None
        self._glance = Glance()
        self._title = ""

    def __repr__(self) -> str:
        return safely(lambda: self._summary().line(), "BatchJob")

    def _repr_html_(self) -> str:
        return safely(lambda: self._summary().html(), "BatchJob")

    def _summary(self) -> Summary:
        """Return the progress that this session knows, or at most one quick answer of Batch."""
        keys = self._keys_argument or self.__dict__.get("keys")
        name, details = keys.knot if keys else "", [("job", self.job_id)]
        if (now := self._known_progress) is not None:
            return summary_of_map("BatchJob", name, self.manifest.count, now, details)
        cloud = self.__dict__.get("_chosen_cloud", self._cloud_argument)
        if not isinstance(cloud, Cloud):
            return Summary("BatchJob", self.job_id, "not read yet")
        described = self._glance.look(cloud, self._newest_known_ids)
        return summary_of_jobs(
            "BatchJob", name or self.job_id, self._known_count, batch.count_states(list(described.values())), details
        )

    @property
    def _newest_known_ids(self) -> list[str]:
        """The ids of the newest round that this session knows."""
        if self._opened is not None:
            return self._run.newest_job_ids
        record = self._stored_record
        return [job_id for job_id in record["job_ids"] if job_id] if record else [self.job_id]

    @property
    def _known_count(self) -> int:
        """The number of elements, if each of them has a child job in the newest round; else 0."""
        newest = self._run.rounds.newest if self._opened is not None else None
        return newest.children if newest is not None and newest.children == self.manifest.count else 0

    @property
    def _known_progress(self) -> Snapshot | None:
        """The progress at the last poll of this session, without a request; None if it collects no results."""
        collection = self._collection.current()
        return collection.collector.status.snapshot() if collection is not None else None

    @cached_property
    def _cloud(self) -> Cloud:
        """The cloud of the job."""
        # The bucket of the run, because the knot may use another one by now.
        return self._chosen_cloud.in_bucket(self.keys.bucket)

    @cached_property
    def _chosen_cloud(self) -> Cloud:
        return choose_cloud(self._cloud_argument)

    @cached_property
    def keys(self) -> RunKeys:
        """The location of the run in S3; ``keys.url`` is its address."""
        return self._keys_argument or find_run(self._chosen_cloud, self.job_id)

    def _open(self) -> tuple[RunView, Retry]:
        """Return the view and the retry of the run. The first call reads the run from S3."""
        if self._opened is None:
            cloud, keys = self._cloud, self.keys
            with self._opening:
                if self._opened is None:
                    self._set_run(cloud, open_run(cloud, keys, self.job_id, self._stored_record))
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
        """The record of the first round."""
        # `Knot.jobs` reads only the records, so a name or a queue costs no further request.
        return self._stored_record or self._run.rounds.first.record

    @property
    def manifest(self) -> Manifest:
        """The stored description of the map: number of elements, chunk size, image and so on."""
        return self._run.manifest

    @property
    def name(self) -> str:
        """The name of the job in Batch."""
        return self._record["name"]

    @property
    def submitted(self) -> datetime:
        """The time of the call of `Knot.map`, in UTC."""
        return run_time(self.keys.run_id)

    @property
    def job_queue(self) -> str:
        """ARN of the job queue."""
        return self._record["job_queue"]

    @property
    def job_definition(self) -> str:
        """ARN of the revision of the job definition that the map uses, and each retry without ``knot``."""
        return self._record["job_definition"]

    @property
    def input(self) -> list[object]:
        """All elements of the map, read from S3. They may take as much memory as in the session that called `map`.

        For a map of the results of another one, this property waits for these results.
        """
        manifest = self.manifest
        if not manifest.source:
            return stored_elements(self._cloud.storage, self.keys, manifest)
        source = BatchJob(manifest.source_job, cloud=self._cloud, keys=RunKeys.parse(manifest.source))
        return [source.result()] if manifest.gather else list(source.result())

    @property
    def array_job(self) -> bool:
        """Whether the map is one array job, and not an independent job for each element."""
        return self.manifest.job_type == "array"

    @property
    def starmap(self) -> bool:
        """Whether each element is a sequence of arguments."""
        return self.manifest.starmap

    @property
    def environment_variables(self) -> list[dict[str, str]]:
        """The variables of `Knot.map`'s ``env_vars``, each as ``{"name": ..., "value": ...}``."""
        stored = self._run.rounds.first.stored_choices.get("env_vars") or ()
        return [{"name": name, "value": value} for name, value in stored]

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the job: those of the knot, and the ``cloudknot`` tag that marks cloudknot's own resources."""
        return self._run.tags

    @property
    def states(self) -> Mapping[str, int]:
        """Number of child jobs in each Batch state when this session last asked Batch. Empty if it has not."""
        return self._opened[0].states if self._opened else {}

    @property
    def job_ids(self) -> list[str]:
        """The ids in Batch of the newest round: the map, or its latest retry, even if another session submitted it.

        One id, or with ``job_type="independent"`` one for each element.
        """
        self._collection.catch_up()
        return self._run.newest_job_ids

    @property
    def status(self) -> JobState:
        """The state of the job in Batch, such as ``"RUNNING"`` or ``"SUCCEEDED"``. After a retry, the retry's state.

        Several child jobs have the state of the most advanced one that has not ended, such as ``"RUNNING"``. If all
        have ended, it is ``"SUCCEEDED"``, or ``"FAILED"`` if one failed. Batch forgets a job some days after its end.
        The state then follows from the stored results. It is ``"UNKNOWN"`` if elements have no stored outcome.
        The string also answers the subscripts of the earlier library: ``job.status["status"]``.
        """
        jobs = self._view.newest_jobs()
        return JobState(batch.state_of(jobs) if jobs else self._status_without_batch(), jobs)

    @property
    def status_reason(self) -> str:
        """Batch's reason for the state of the job, or why its jobs wait for a machine. Empty if Batch gives none."""
        jobs = self._view.newest_jobs()
        if only_waits(batch.count_states(jobs)):
            return explain(self.name, self._view.reason_of_waiting())
        return batch.reasons_of(jobs)

    def _status_without_batch(self) -> str:
        # Only success is final, and remembered: a retry can still change a failure.
        state = self._last_status or state_of_stored(self._view)
        self._last_status = state if state == "SUCCEEDED" else None
        return state

    @property
    def done(self) -> bool:
        """Whether the job has ended, with or without failures."""
        # The future comes first: Batch reports the end of a job a little later than its last result can be read.
        collection = self._collection.current()
        has_all_outcomes = (
            collection is not None and collection.ended and not collection.table.any_in(GIVEN_UP, CANCELLED)
        )
        return has_all_outcomes or self.status in (*ENDED, FORGOTTEN)

    @property
    def attempts(self) -> list[AttemptDetailTypeDef]:
        """Batch's descriptions of the attempts of all child jobs, in all rounds, while Batch remembers the job."""
        return [attempt for job in self._described_children() for attempt in job.get("attempts", ())]

    @property
    def log_urls(self) -> list[str]:
        """The addresses of the logs of all attempts that have started, child by child."""
        return [self._cloud.log_url(stream) for job in self._described_children() for stream in batch.log_streams(job)]

    def _described_children(self) -> Iterator[batch.Job]:
        self._collection.catch_up()
        return iter(self._view.describe(range(self._run.rounds.children)).values())

    def logs(self, index: int | None = None) -> Iterator[str]:
        """Yield the lines that the job has printed so far, attempt by attempt.

        Parameters
        ----------
        index : int, optional
            Read only the logs of the child jobs that ran this element: one, plus one for each of its retries.
            Default: the logs of all child jobs, one after the other.

        Yields
        ------
        str
            A line, without its newline.

        Raises
        ------
        CloudknotInputError
            The map has no element with this index.
        """
        yield from (line.message for line in self._output(index).lines())

    def _output(self, index: int | None = None) -> Output:
        if index is not None:
            self.check_index(index)
        return Output(self._view, index, self._collection.catch_up, lambda: self.done)

    def check_index(self, index: int) -> None:
        """Check that the map has an element with this index. Raises `CloudknotInputError` if it has none."""
        if not 0 <= index < (count := self.manifest.count):
            refuse(
                problem=f"index={index} is not the index of an element of this map.",
                fix=f"Pass an index from 0 to {count - 1}." if count > 1 else "Pass index=0: the map has one element.",
            )

    def progress(self) -> Snapshot:
        """Return the numbers of elements with a result and without one, and of child jobs in each state of Batch.

        Asks Batch and S3 once, and does not wait for the job.
        """
        return self._collection.polled()[0].collector.status.snapshot()

    def errors(self) -> Iterator[tuple[int, BaseException]]:
        """Yield the failed elements by index, each with its exception. Does not wait for the job.

        Yields
        ------
        tuple of int and exception
            The index of an element that has failed so far, and the exception that ``future[index].result()`` raises.
        """
        collection, future = self._collection.polled()
        for index in collection.table.without_value_from(0):
            # The rest of a cancelled map has not failed.
            if collection.table.state(index) != CANCELLED and (error := future[index].exception()) is not None:
                yield index, error

    def future(self, progress: Progress | None = None) -> MapFuture:
        """Return the future of the list of results, or of the one value of a `reduce`.

        Repeated calls return the same future, as long as it has not ended or a caller holds it. A new one takes its
        place after a retry, after the future was cancelled, and after it gave up because the cloud did not answer.
        """
        return self._collection.future(progress)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the result in a coroutine."""
        return self._await_result().__await__()

    async def _await_result(self) -> Any:
        from asyncio import to_thread

        # `future` reads the run from S3, and must not block the event loop.
        return await (await to_thread(self.future))

    def result(self, timeout: float | None = None, *, fail_fast: bool = False) -> Any:
        """Wait for the list of results, or for the one value of a `reduce`, and return it. See `MapFuture.result`.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. Default: no limit.
        fail_fast : bool
            Raise the error of a failed element as soon as one is known.

        Raises
        ------
        CKTimeoutError
            There is no result after ``timeout`` seconds. The job goes on.
        BatchJobFailedError
            An element has no result. An exception of the function itself is raised as it is.
        """
        return self.future().result(timeout, fail_fast=fail_fast)

    def retry_failed(
        self,
        memory: int | str | None = None,
        timeout: int | None = None,
        vcpus: int | None = None,
        retries: int | None = None,
        *,
        knot: Any = None,
        chunksize: int | None = None,
        progress: bool | None = None,
    ) -> MapFuture:
        """Run the failed elements again, in a new Batch job: with the same function, or with that of ``knot``.

        Stored results are kept. If no element has failed, nothing is submitted. If the elements are the results of
        another map that is still running, or being retried, the new job waits for it.

        Parameters
        ----------
        memory, timeout, vcpus, retries : int, optional
            As in `Knot.map`. Default: the values of the previous round. After a job ran out of memory, its memory is
            multiplied by the ``memory_growth`` of the knot, if there is one.
        knot : Knot or str, optional
            The knot of the map, or its name: run its present function, with its present image, queue and memory (but
            not less memory than before). Default: those of the previous round, even if the knot has changed.
        chunksize : int, optional
            Elements for each child job, at most as many as in the map. Default: the choice of the map. Without one,
            or after a process has died, the failed elements are divided over up to 1,000 child jobs. An element that
            kills its process then takes few others with it.
        progress : bool, optional
            As in `Knot.map`.

        Returns
        -------
        MapFuture
            The future of the full list of results. From now on `future` returns the same one.

        Raises
        ------
        CloudknotInputError
            An argument is not valid, ``knot`` is not the knot of the map, its function cannot take the elements, or
            the new job would wait for more than 20 others. Nothing was submitted.
        JobRunningError
            The job is still running, or another session is submitting a retry. Nothing was submitted.
        ResourceDoesNotExistException, ResourceClobberedException
            The job or the knot was clobbered. Nothing was submitted.
        """
        options = RetryOptions.make(
            memory=memory, timeout=timeout, vcpus=vcpus, retries=retries, chunksize=chunksize, progress=progress
        )
        changes = {name: getattr(options, name) for name in ("memory", "timeout", "vcpus", "retries")}
        successor = None if knot is None else successor_of(knot, self._run, self._cloud)

        def submit(table: ElementTable) -> Progress | None:
            self._retry.submit(table, changes, chunksize, successor)
            if successor:
                self._program, self._target = successor.program, successor.target
            return progress_line(f"{self._title or self.manifest.knot} retry", self.manifest.count, progress)

        return self._collection.start_again(submit)

    def functions(self) -> list[FunctionUse]:
        """Return the functions that made the results so far, in the order of their rounds. Reads S3.

        A retry with ``knot`` may run another function than the map did. Elements without a result are in none.

        Examples
        --------
        >>> for use in job.functions():
        ...     print(use.function, use.digest, use.elements)
        """
        self._view.refresh()
        return function_uses(self._view)

    def reduce(
        self,
        func: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        env_vars: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        requirements: Iterable[str] | None = None,
        progress: bool | None = None,
        memory: int | str | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
    ) -> MapFuture:
        """Call a function once with the list of all results, in a job that starts when the map has succeeded.

        The results go from job to job, not through this session.

        Parameters
        ----------
        func : callable or Knot
            The function, called as ``func(results, **kwargs)``. A callable is pickled and runs in the image of the
            map, so its imports must be installed there. A `Knot` runs its own function in its own image.
        kwargs, env_vars, progress, memory, vcpus, timeout, retries : optional
            As in `Knot.map`. ``memory`` must hold all results at the same time.
        requirements : sequence of str, optional
            pip requirement lines for the function. Default: the packages that it imports. Pass ``[]`` if the image has
            all of them.

        Returns
        -------
        ReducedFuture
            The future of the value that the function returns.

        Raises
        ------
        CloudknotInputError
            The function does not accept these arguments, or needs packages that the image may lack. Nothing was
            submitted.

        Examples
        --------
        >>> job = knot.map(range(100)).job
        >>> total = job.reduce(sum).result()
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
        # Only a Knot has this method. Its class is on a floor above, so it cannot be imported for isinstance.
        if gather := getattr(func, "_gather", None):
            return cast("MapFuture", gather(self._source(gather=True), options))
        program, target = self._newest_function()
        run = Reduce(self._run, self._view, program, target).submit(func, requirements, options)
        job = started_job(self._cloud, run, options.max_threads, program, target, self._title)
        return job.future(progress_line(job._title, 1, options.progress))

    def _newest_function(self) -> tuple[Program | None, Target | None]:
        """Return the program and the target of the newest round; None if another session made them."""
        self._collection.catch_up()
        newest = self._run.rounds.newest.submission.manifest
        is_current = self._target is not None and self._target.job_definition == newest.job_definition
        return (self._program, self._target) if is_current else (None, None)

    def _source(self, gather: bool = False) -> Source:
        """Return the results as the input of another map."""
        return Source(self._run, self._view.live_job_ids, gather)

    def terminate(self, reason: str) -> None:
        """End the newest round of the job, with its running child jobs. Stored results stay.

        Parameters
        ----------
        reason : str
            Recorded by Batch, and shown in the errors of elements without a result.
        """
        # Memory growth stops first, or it could submit the ended elements again.
        with self._retry.stopped():
            batch.terminate(self._cloud.door, self._view.live_jobs(), reason)

    def kill(self, reason: str) -> None:
        """Call `terminate`. The name of earlier versions."""
        self.terminate(reason)

    def clobber(self) -> None:
        """End the job, and delete its inputs and results. Wait up to 40 s for its child jobs to end.

        If the call is interrupted, call it again: it deletes the rest.

        Raises
        ------
        PermissionDeniedError
            The credentials do not allow ending the job or deleting its objects. Nothing was changed.
        """
        # A run that is already half deleted cannot be opened, and has no jobs to end.
        with suppress(ResourceDoesNotExistException):
            # The job must not end, if its objects cannot be deleted afterwards.
            check_discarding(self._cloud, self.keys)
            self.terminate("Clobbered")
            # A child that is being stopped still stores its results, so the deletion waits for it.
            if not self._view.has_stopped():
                # Another session may have submitted a retry in the meantime.
                self.terminate("Clobbered")
                self._view.has_stopped()
        discard_run(self._cloud, self.keys)


def started_job(
    cloud: Cloud,
    run: Run,
    max_threads: int = 64,
    program: Program | None = None,
    target: Target | None = None,
    title: str = "",
) -> BatchJob:
    """Return the job of a run that this session has just submitted. It reads nothing from S3.

    ``title`` is the name of the map in progress lines, for a `reduce` that of its source. Default: the knot's name.
    """
    title = title or run.keys.knot
    job = recorded_job(cloud, run.keys, run.rounds.first.record, max_threads)
    job._program, job._target = program, target
    job._title = f"{title} reduce" if run.manifest.gather else title
    job._collection.mark_new()
    job._set_run(cloud.in_bucket(run.keys.bucket), run, grows=True)
    return job


def recorded_job(cloud: Cloud, keys: RunKeys, record: Record, max_threads: int = 64) -> BatchJob:
    """Return the job of a run whose record is already read."""
    job = BatchJob(next(filter(None, record["job_ids"])), cloud=cloud, keys=keys, max_threads=max_threads)
    job._stored_record = record
    return job
