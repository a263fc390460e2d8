"""MapFuture: the future of a map's list of results, and a sequence of the futures of its elements.

This module has only the surface of `concurrent.futures`. The collector resolves the future, and the loader reads
results when a caller asks for them.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, overload

from cloudknot.aws.sdk import interrupts
from cloudknot.display.summaries import Summary, elements, safely, summary_of_map
from cloudknot.errors import refuse
from cloudknot.options.public import public
from cloudknot.run.collect.collector import Collector
from cloudknot.run.collect.element_future import CloudFuture, ElementFuture, ElementFutures
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP, ElementTable, Ended
from cloudknot.run.collect.job_failures import Growth
from cloudknot.run.collect.loader import Loader, Outcome
from cloudknot.run.collect.map_status import MapStatus
from cloudknot.run.collect.pack_cache import Packs
from cloudknot.run.collect.waiters import Waiters
from cloudknot.worker.wire.failure import replace_note

if TYPE_CHECKING:
    from cloudknot.display.progress import Progress
    from cloudknot.run.collect.run_view import RunView


@public
class MapFuture(CloudFuture, Sequence[ElementFuture]):
    """The future of a map: a future of the list of results, and a sequence of the futures of its elements.

    `Knot.map`, `BatchJob.future` and `retry_failed` return it. As a `concurrent.futures.Future`, its result is the
    list of all results in input order, and ``await future`` returns the same list. As a sequence, it contains one
    `ElementFuture` for each element: ``len(future)``, ``future[3]``, ``for element in future`` and
    ``concurrent.futures.wait(future)`` work.

    If elements have no result, `result` raises the exception of the first of them by index. The results of the other
    elements are available from their own futures.

    Results are read from S3 when they are needed. `result` reads all of them into one list and keeps it. A loop over
    the elements keeps no results, so it also works when they do not fit into memory together.

    Attributes
    ----------
    job : BatchJob or None
        The submitted map, with its status and logs. None for an empty map.

    Examples
    --------
    >>> future = knot.map([1, 2, 3])
    >>> future.result()
    [1, 4, 9]
    >>> future[2].result()
    9
    >>> failed = [element.index for element in future if element.exception()]
    """

    _collector: Collector

    def __init__(self, collector: Collector, table: ElementTable, loader: Loader, job: Any) -> None:
        super().__init__()
        self.job = job
        self._collector, self._table, self._loader = collector, table, loader
        self._all_waiters = collector.waiters
        self._condition, self._waiters = collector.waiters.condition, collector.waiters.of_map
        self._futures = ElementFutures(collector, table, loader, job)
        self._first_error: ElementFuture | None = None
        self._note = ""
        collector.serve(self, self._futures)

    def __repr__(self) -> str:
        return safely(lambda: self._summary().line(), type(self).__name__)

    def _repr_html_(self) -> str:
        return safely(lambda: self._summary().html(), type(self).__name__)

    def _summary(self) -> Summary:
        """Return the progress at the collector's last poll. It makes no request, since a debugger may ask for it."""
        status = self._collector.status
        details = [("job", status.job_id)]
        return summary_of_map(type(self).__name__, status.knot, len(self), status.snapshot(), details)

    def __len__(self) -> int:
        """Return the number of elements."""
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> ElementFuture: ...
    @overload
    def __getitem__(self, index: slice) -> list[ElementFuture]: ...
    def __getitem__(self, index: int | slice) -> ElementFuture | list[ElementFuture]:
        """Return the future of one element, or a list of futures for a slice."""
        selection = range(len(self))[index]
        return self._futures[selection] if isinstance(selection, int) else list(self._futures.each(selection))

    def __iter__(self) -> Iterator[ElementFuture]:
        """Yield the futures of all elements in input order."""
        return self._futures.each(range(len(self)))

    def result(self, timeout: float | None = None, *, fail_fast: bool = False) -> Any:
        """Wait for the list of all results, in input order, and return it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. Default: no limit.
        fail_fast : bool
            Raise the error of a failed element as soon as one is known. The job keeps running, as with
            ``concurrent.futures.wait(future, return_when=FIRST_EXCEPTION)``. End it with `cancel`.

        Raises
        ------
        CKTimeoutError
            There is no list after ``timeout`` seconds. The job keeps running.
        concurrent.futures.CancelledError
            The map was cancelled.
        BatchJobFailedError
            An element has no result for another reason than an exception, such as too little memory.
        Exception
            The exception of the first failed element by index. Its ``__cause__`` is the traceback in the job. A note
            has the number of failed elements.

        Examples
        --------
        >>> try:
        ...     results = future.result(fail_fast=True)
        ... except Exception:
        ...     future.cancel()
        ...     raise
        """
        if fail_fast and not self.done():
            self._await_failure(timeout)
            # Another session's retry may have replaced the failure since.
            error = self._outcome()[1] if not self.done() and self._table.without_value else None
            if error is not None:
                try:
                    raise error
                finally:
                    # As in `CloudFuture.result`.
                    self = error = None  # type: ignore[assignment]
        return super().result(timeout)

    def _await_failure(self, timeout: float | None) -> None:
        """Wait until an element has failed, or all have ended."""
        with self._collector.attended(), self._condition:
            if not interrupts.wait_for(self._condition, lambda: self.done() or self._table.without_value, timeout):
                raise self._late(timeout) from TimeoutError()

    def as_completed(self, timeout: float | None = None) -> Iterator[ElementFuture]:
        """Yield the futures of the elements as they end. Elements that have already ended come first.

        It yields the same futures as `concurrent.futures.as_completed`, but holds none of them in memory. So it works
        for millions of elements.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait in all. Default: no limit.

        Yields
        ------
        ElementFuture
            An element that has ended, with a result or without.

        Raises
        ------
        CKTimeoutError
            Not all elements have ended ``timeout`` seconds after the loop began. The job keeps running.

        Examples
        --------
        >>> for element in future.as_completed():
        ...     print(element.index, element.result())
        """
        # `concurrent.futures.as_completed` makes a set of all futures first, of some hundred bytes each.
        until = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            queue = self._all_waiters.listen(self._table.ended())
        try:
            remaining = len(self)
            while remaining:
                start, flags = self._next(queue, until, timeout)
                remaining -= flags.count(1)
                yield from self._futures.each(compress(range(start, start + len(flags)), flags))
        finally:
            self._all_waiters.stop_listening(queue)

    def _next(self, queue: deque[Ended], until: float | None, timeout: float | None) -> Ended:
        """Wait for the next ended elements and return them."""
        with self._collector.attended(), self._condition:
            if not interrupts.wait_for(self._condition, lambda: queue, until and until - time.monotonic()):
                raise self._late(timeout)
            return queue.popleft()

    def running(self) -> bool:
        """Return whether the map has not ended and a child job runs, by the last poll of Batch. Makes no request."""
        return not self.done() and self._collector.status.is_running

    def cancel(self) -> bool:
        """End the Batch job of the map. Stored results are kept.

        The futures of elements that have ended keep their results. The futures of all others are cancelled.

        Returns
        -------
        bool
            False if all elements had ended before, so that nothing was cancelled.

        Raises
        ------
        CloudError
            The job could not be ended.
        """
        if self.done():
            return self.cancelled()
        collector = self._collector
        with collector.failures_held():
            self.job.terminate("Cancelled by its future")
            collector.stop()
            try:
                collector.take_last()
            finally:
                # Also after Ctrl-C: the collector has stopped, so a wait for a pending element would never end.
                try:
                    collector.cancel_elements()
                finally:
                    cancelled = self._cancel() if self._table.any_in(CANCELLED) else not collector.complete()
                    collector.release()
            return cancelled

    def _cancel(self) -> bool:
        """Set the state of `Future` to cancelled, and wake its waiters."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def reduce(self, func: Any, **choices: Any) -> ReducedFuture:
        """Call ``func`` once with the list of all results, in a job that starts when the map has succeeded.

        The results go from job to job, not through this session. The call returns at once.

        Parameters
        ----------
        func : callable or Knot
            The function, called as ``func(results, **kwargs)``.
        **choices
            The keyword arguments of `cloudknot.BatchJob.reduce`.

        Returns
        -------
        ReducedFuture
            The future of the value that ``func`` returns.

        Raises
        ------
        CloudknotInputError
            The map is empty, or an argument is not valid. Nothing was submitted.

        Examples
        --------
        >>> knot.map(range(100)).reduce(sum).result()
        """
        reduced: ReducedFuture = self.job.reduce(func, **choices)
        return reduced

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

        Stored results are kept, so only failed elements cost again. If no element has failed, nothing is submitted.

        Parameters
        ----------
        memory : int, optional
            MiB for each child job. Default: as before, or more with ``memory_growth``.
        timeout : int, optional
            Seconds for each attempt of a child job. Default: as before.
        vcpus : int, optional
            vCPUs for each child job. Default: as before.
        retries : int, optional
            Attempts of each child job. Default: as before.
        knot : Knot or str, optional
            The knot of the map with its present function, such as ``Knot(name, func=fixed)``. Default: the function of
            the previous round. See `cloudknot.BatchJob.retry_failed`.
        chunksize : int, optional
            Elements for each child job, at most as many as in the map. For the default, see
            `cloudknot.BatchJob.retry_failed`.
        progress : bool, optional
            Whether to show progress, as in `Knot.map`.

        Returns
        -------
        MapFuture
            The future of the full list of results: the stored ones and those of this retry.

        Raises
        ------
        JobRunningError
            The job is still running. Nothing was submitted.
        ResourceDoesNotExistException
            The job was clobbered. Nothing was submitted.

        Examples
        --------
        >>> future.retry_failed(memory=15000).result()
        >>> future.retry_failed(knot=Knot(name="scans", func=fixed)).result()
        """
        if self.job is None:
            return self
        again: MapFuture = self.job.retry_failed(
            memory, timeout, vcpus, retries, knot=knot, chunksize=chunksize, progress=progress
        )
        return again

    def _outcome(self) -> Outcome:
        if self.cancelled():
            raise CancelledError
        if (index := self._table.first_without_value()) is not None:
            # This future holds the future of the element, so that each call returns the same exception object.
            self._first_error = self._futures[index]
            error = self._first_error._outcome()[1]
            if error is not None:
                self._note_failures(error)
            return None, error
        return self._loader.list_of_all(self._futures.loaded)

    def _note_failures(self, error: BaseException) -> None:
        """Add the number of failed elements to the error of the map. A later call replaces an earlier number."""
        table, count = self._table, len(self)
        if count == 1:
            return
        # The job of an element that was given up may go on, and succeed.
        unread = table.number_of(GIVEN_UP)
        failed = table.without_value - unread
        note = f"{failed or unread:,} of {count:,} elements {'failed' if failed else 'could not be read'}"
        if failed and unread:
            note += f", and {unread:,} could not be read"
        if table.pending:
            note += f" so far, and {table.pending:,} have not ended. The job keeps running. End it: future.cancel()"
        replace_note(error, f"{note}.", earlier=self._note)
        self._note = f"{note}."


class ReducedFuture(MapFuture):
    """The future of a `reduce`: its result is the one value that the function returns.

    As a sequence, it contains one element with the same value.
    """

    def _outcome(self) -> Outcome:
        values, error = super()._outcome()
        return (values, error) if error is not None else (values[0], None)


class _EmptyMap(MapFuture):
    """The future of a map without elements. It has no job, and ends at once with an empty list."""

    def __init__(self) -> None:
        # Not `MapFuture.__init__`, which starts a collector.
        CloudFuture.__init__(self)
        self.job, self._table, self._all_waiters = None, ElementTable(0), Waiters(0)
        self._condition, self._waiters = self._all_waiters.condition, self._all_waiters.of_map
        self.set_result(None)

    def _summary(self) -> Summary:
        return Summary(MapFuture.__name__, "", "nothing to do", elements(0))

    def __getitem__(self, index: Any) -> Any:
        return list(range(0)[index])

    def __iter__(self) -> Iterator[ElementFuture]:
        return iter(())

    def reduce(self, func: Any, **choices: Any) -> ReducedFuture:
        """Refuse, because an empty map has no job to wait for."""
        refuse(
            problem="An empty map has no job, so reduce has no results to gather.",
            fix="Call the function in this session: func([]).",
        )

    def _outcome(self) -> Outcome:
        return [], None


def empty_map() -> MapFuture:
    """Return the finished future of a map without elements."""
    return _EmptyMap()


@dataclass(frozen=True)
class Collection:
    """The parts of a collected map that its `BatchJob` keeps.

    The future is not among them once it has ended. Otherwise each job of a knot would keep its results in memory.
    """

    table: ElementTable
    collector: Collector
    _future: weakref.ReferenceType[MapFuture]

    @property
    def future(self) -> MapFuture | None:
        """The future of the map; None if it has ended and nobody holds it."""
        return self._future()

    @property
    def ended(self) -> bool:
        """Whether the future has ended."""
        future = self.future
        return future is None or future.done()


def collect(
    view: RunView,
    growth: Growth,
    job: Any,
    *,
    max_threads: int = 64,
    how_to_return: str = "",
    progress: Progress | None = None,
    earlier: Collection | None = None,
    is_new: bool = False,
) -> tuple[Collection, MapFuture]:
    """Start to collect the results of a run, and return the collection and its future.

    Parameters
    ----------
    view : RunView
    growth : Growth
    job : BatchJob
        The future's attribute ``job``, which can also end the job.
    max_threads : int
        Number of packs to read at the same time.
    how_to_return : str
        Sentence for messages: how another session finds the job.
    progress : Progress, optional
        The display of progress.
    earlier : Collection, optional
        An earlier collection of the same run. Its values are used again.
    is_new : bool
        Whether this session has just submitted the newest round of the run.
    """
    manifest = view.run.manifest
    table = earlier.table.reopened() if earlier else ElementTable(manifest.count)
    earlier_future = earlier.future if earlier else None
    packs = Packs(view) if earlier_future is None else earlier_future._loader.packs
    collector = Collector(
        view,
        table,
        Waiters(len(table)),
        packs,
        status=MapStatus(view, table, progress, how_to_return),
        growth=growth,
        terminate=job.terminate,
        max_threads=max_threads,
        is_new=is_new,
    )
    kind = ReducedFuture if manifest.gather else MapFuture
    future = kind(collector, table, Loader(view, table, packs, growth, max_threads), job)
    return Collection(table, collector, weakref.ref(future)), future
