"""JobCollection: the collection of a job's results in this session, which each new round starts anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloudknot.errors import JobRunningError
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP
from cloudknot.run.collect.map_future import Collection, MapFuture, collect

if TYPE_CHECKING:
    from cloudknot.display.progress import Progress
    from cloudknot.run.collect.element_table import ElementTable
    from cloudknot.run.collect.run_view import RunView
    from cloudknot.run.jobs.retries.retry import Retry


class JobCollection:
    """The collection of a job's results in this session.

    Parameters
    ----------
    job : BatchJob
        The job of the futures.
    open_run : callable
        Returns the view and the retry of the run. The first call reads the run from S3.
    max_threads : int
        Number of packs to read at the same time.
    """

    def __init__(self, job: Any, open_run: Callable[[], tuple[RunView, Retry]], max_threads: int) -> None:
        self._job, self._open, self._max_threads = job, open_run, max_threads
        self._collection: Collection | None = None
        self._is_new = False

    @property
    def _view(self) -> RunView:
        return self._open()[0]

    def mark_new(self) -> None:
        """Note that this session has just submitted the job, so there are no rounds of other sessions."""
        self._is_new = True

    def catch_up(self) -> None:
        """Read rounds that other sessions have added, unless there cannot be any."""
        collection = self.current()
        # Only an ended run with failed elements can get another round, so all others save the listing.
        is_up_to_date = (
            self._is_new if collection is None else not (collection.ended and collection.table.without_value)
        )
        if not is_up_to_date:
            self._view.refresh()

    def current(self) -> Collection | None:
        """Return the collection in this session; None before the first, or after a newer round."""
        collection = self._collection
        # The comparison of two numbers is enough, so no session has to notify this future of a new round.
        is_outdated = (
            collection is not None and collection.ended and collection.collector.round < self._view.newest_round
        )
        return None if is_outdated else collection

    def future(self, progress: Progress | None = None) -> MapFuture:
        """Return the future of the collection. Start the collection if it has to start."""
        return self._with_future(progress)[1]

    def _with_future(self, progress: Progress | None = None) -> tuple[Collection, MapFuture]:
        with self._view.lock:
            collection, future = self._ensure(progress)
            if future is None:
                future = self.start(progress, collection)
                assert self._collection is not None
                collection = self._collection
            return collection, future

    def future_of(self, ended: Collection) -> MapFuture:
        """Return the future of an ended collection, or a new one if nobody holds it."""
        return self.start(None, ended) if ended.future is None else ended.future

    def _ensure(self, progress: Progress | None = None) -> tuple[Collection, MapFuture | None]:
        """Return the collection in this session, or start one. Return its future too, unless nobody holds it."""
        # The lock covers the search for rounds and the new future: a future serves only the rounds that its collector
        # knew when it ended.
        with self._view.lock:
            collection = self.current()
            future = collection.future if collection else None
            ended_badly = collection is not None and collection.ended and collection.table.without_value > 0
            is_new, self._is_new = self._is_new, False
            has_new_rounds = (ended_badly or collection is None) and not is_new and self._view.refresh()
            if collection is None or has_new_rounds or collection.table.any_in(GIVEN_UP, CANCELLED):
                future = self.start(progress, collection, is_new=is_new)
                collection = self._collection
            assert collection is not None
            return collection, future

    def start(
        self, progress: Progress | None = None, earlier: Collection | None = None, *, is_new: bool = False
    ) -> MapFuture:
        """Start a new collection, and return its future.

        Values of an ``earlier`` one are used again. ``is_new`` notes that this session has just submitted the newest
        round.
        """
        view, retry = self._open()
        how = f"Find it in any session: cloudknot.Knot(name={view.run.manifest.knot!r}).jobs."
        self._collection, future = collect(
            view,
            retry,
            self._job,
            max_threads=self._max_threads,
            how_to_return=how,
            progress=progress,
            earlier=earlier,
            is_new=is_new,
        )
        return future

    def start_again(self, submit: Callable[[ElementTable], Progress | None]) -> MapFuture:
        """Submit the elements without a value again, and return the future of the new collection.

        ``submit`` gets the table of the ended collection, and returns the display of the new one. It is not called if
        every element has a value.
        """
        while True:
            # Waits without the lock, because the collector may need it to end.
            ended = self.wait_until_ended()
            with self._view.lock:
                # Another thread may have retried between the wait and the lock: then wait for that round.
                if ended is self.current():
                    if not ended.table.without_value:
                        return self.future_of(ended)
                    return self.start(submit(ended.table), ended, is_new=True)

    def polled(self) -> tuple[Collection, MapFuture]:
        """Return the collection and its future after a first poll, so that earlier outcomes are known."""
        collection, future = self._with_future()
        _await_poll(collection)
        return collection, future

    def wait_until_ended(self) -> Collection:
        """Return a collection with an outcome for every element. Wait only for jobs that are stopping.

        Raises
        ------
        JobRunningError
            The job is still running.
        CloudError
            The cloud does not answer.
        """
        collection, future = self._ensure()
        # A cancelled map may have stored more results than its future knows, so it is collected once more. The
        # collector is asked because the last element ends a moment before the future does.
        if not collection.collector.complete() or collection.table.any_in(CANCELLED):
            if not (self._view.has_stopped() or self._is_complete(collection)):
                raise JobRunningError(
                    f"The job {self._job.job_id} is still running, so not all of its failed elements are known yet. "
                    "Nothing was submitted. Wait for its result, or end it with job.terminate('reason'). Then call "
                    "retry_failed() again.",
                    job_id=self._job.job_id,
                )
            with self._view.lock:
                if future is not None and future.cancelled() and collection is self.current():
                    self.start()
                collection = self.current() or collection
                future = collection.future
            if future is not None:
                future.exception()
        if collection.table.any_in(GIVEN_UP):
            # The cloud did not answer, so these elements may have results: running them again could cost twice.
            error = collection.table.given_up_with
            error.add_note("Nothing was submitted.")
            raise error
        return collection

    def _is_complete(self, collection: Collection) -> bool:
        """Return whether S3 has an outcome for every element, by a poll. Batch reports the end a moment later."""
        if collection.table.any_in(CANCELLED):
            return False
        _await_poll(collection)
        return collection.collector.complete() and not collection.table.any_in(CANCELLED)


def _await_poll(collection: Collection) -> None:
    """Wait for the first poll of a collection."""
    # Ends also without an answer: then the collector gives up.
    with collection.collector.attended():
        collection.collector.polled.wait()
