"""What failed of a job runs again: asked for by `retry_failed`, or by itself with ``memory_growth``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloudknot.display.progress import Progress, progress_line
from cloudknot.errors import JobRunningError
from cloudknot.options.validators import MOST_GROWTH
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP
from cloudknot.run.collect.job_failures import Ending, ending, out_of_memory
from cloudknot.run.collect.run_view import RunSource
from cloudknot.run.jobs.rounds import Choices, RetryOptions, chunk_after_death, grown, start_round

if TYPE_CHECKING:
    from cloudknot.aws import batch
    from cloudknot.run.collect.map_future import MapFuture
    from cloudknot.worker.wire.manifest import Manifest

logger = logging.getLogger("cloudknot")


class Retrying(RunSource):
    """What can be run again: a base of `cloudknot.BatchJob`."""

    job_id: str
    _lock: threading.RLock
    _future: MapFuture | None
    _may_grow = False
    _more: Choices | None = None

    @property
    def manifest(self) -> Manifest:
        """What was submitted as the map."""
        return self.rounds.first.submission.manifest

    def future(self, progress: Progress | None = None) -> MapFuture:
        """The future of the map's results."""
        raise NotImplementedError

    def _new_future(self, progress: Progress | None, earlier: MapFuture | None = None) -> MapFuture:
        raise NotImplementedError

    def _live_jobs_of_source(self) -> list[str]:
        """The Batch jobs that still make results which are inputs of this map, such as a retry's."""
        raise NotImplementedError

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
            future = self._ended_future()
            with self._lock:
                if future is self._future:
                    return self._run_again(future, given, chunksize, progress)

    def _run_again(
        self, future: MapFuture, given: dict[str, int | None], chunksize: int | None, progress: bool | None
    ) -> MapFuture:
        """Run again what has no result by the map's present future, and give its next one."""
        failed = future.elements.indices_without_value()
        if failed:
            choices = self._choices(future).given(given)
            if chunksize is None and future.results.any_died():
                chunksize = chunk_after_death(self.rounds, len(failed))
            waits = self._live_jobs_of_source()
            self.rounds.add(start_round(self.cloud, self.rounds, failed, choices, chunksize, waits))
            self._may_grow = True
            line = progress_line(self.manifest.knot, self.manifest.count, progress)
            future = self._future = self._new_future(line, future)
        return future

    def _ended_future(self) -> MapFuture:
        """The future with all that has become of the elements.

        A map that was cancelled, or given up when the cloud was silent, may have more results than its future knows.
        """
        future = self.future()
        # An element's end is known a moment before the map's own.
        if not future.complete() or future.elements.any_in(CANCELLED):
            if not self.has_stopped():
                raise JobRunningError(
                    f"The job {self.job_id} still runs, so what fails of it is not known yet. Nothing was submitted. "
                    "Wait for its result, or end it with terminate(reason), and call again."
                )
            with self._lock:
                if future.cancelled() and future is self._future:
                    self._future = self._new_future(None)
                future = self._future or future
            future.exception()
        if future.elements.any_in(GIVEN_UP):
            # What has no answer may have a result: to run it again might be to pay twice.
            error = future.results.given_up_with
            error.add_note("Nothing was submitted.")
            raise error
        return future

    def _choices(self, future: MapFuture) -> Choices:
        """What a retry is submitted with unless something else is asked for."""
        choices = Choices.stored(self.rounds.newest.about)
        if self.manifest.memory_growth and (memory := future.results.short_of_memory()):
            return grown(choices, self.manifest.memory_growth, memory) or choices
        return choices

    def growth(self, end: Ending) -> str:
        """What ``memory_growth`` does about a job that ran out of memory, in words; empty without it."""
        factor = self.manifest.memory_growth
        if not factor or not end.memory:
            return ""
        more = grown(Choices.stored(self.rounds.newest.about), factor, end.memory)
        if more is None:
            return f". It has grown to {MOST_GROWTH} times its first memory, where memory_growth ends"
        return (
            f", retry_failed() alone with {more.overrides.memory:,} MiB. memory_growth does that by itself only while "
            "the session lives that submitted the map"
        )

    # What follows is called by the collector: memory_growth, in the session that submitted the map or a retry of it.

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Whether what a child left without a result is to be run again with more memory, once all has ended."""
        end = ending(job)
        wanted = self._may_grow and not self._stopped_by_hand
        if not (wanted and self.manifest.memory_growth and out_of_memory(end)):
            return False
        more = grown(Choices.stored(self.rounds.newest.about), self.manifest.memory_growth, end.memory)
        self._more = more or self._more
        return more is not None and child >= self.rounds.newest.start

    def grow(self, elements: Sequence[int]) -> None:
        """Run elements again with more memory."""
        assert self._more is not None
        with self._lock:
            if not self._may_grow or self._refresh():
                return  # Somebody has ended the job, or another session was faster.
            logger.warning("Out of memory: %d elements run again, %s", len(elements), self._more.overrides)
            self.rounds.add(start_round(self.cloud, self.rounds, elements, self._more))
