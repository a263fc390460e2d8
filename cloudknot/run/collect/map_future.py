"""MapFuture: the future of a map's list of results, and a sequence of its elements' own futures.

Only the surface of `concurrent.futures` is here. The collector resolves the future, and the loader reads results when
they are asked for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, overload

from cloudknot.errors import refuse
from cloudknot.run.collect.collector import Collector
from cloudknot.run.collect.element_future import CloudFuture, ElementFuture, ElementFutures
from cloudknot.run.collect.element_table import CANCELLED, ElementTable, Ended
from cloudknot.run.collect.job_failures import Growth
from cloudknot.run.collect.loader import Loader, Outcome
from cloudknot.run.collect.map_status import MapStatus
from cloudknot.run.collect.pack_cache import Packs
from cloudknot.run.collect.waiters import Waiters

if TYPE_CHECKING:
    from cloudknot.display.progress import Progress
    from cloudknot.run.collect.run_view import RunView


class MapFuture(CloudFuture, Sequence[ElementFuture]):
    """What `Knot.map` returns.

    As a `concurrent.futures.Future`, its result is the list of all results in input order. As a sequence, it holds
    each element's own `Future`: ``len(f)``, ``f[3].result()``, ``as_completed(f)``, ``wait(f)``.

    ``result()`` raises the exception of the first element, by index, that has one; the others' results stay
    reachable in their own futures. The list is made when it is asked for; an element's result is read when it is
    asked for, and held by its future only.

    Attributes
    ----------
    job : BatchJob or None
        The Batch job; None for an empty map.
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
        collector.serve(self, self._futures)

    def __repr__(self) -> str:
        left, failed = self._table.left, self._table.without_value
        lacking = f", {failed} without a result" if failed else ""
        return f"<MapFuture of {len(self)} elements: {len(self) - left} done{lacking}>"

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> ElementFuture: ...
    @overload
    def __getitem__(self, index: slice) -> list[ElementFuture]: ...
    def __getitem__(self, index: int | slice) -> ElementFuture | list[ElementFuture]:
        found = range(len(self))[index]
        return self._futures[found] if isinstance(found, int) else list(self._futures.each(found))

    def __iter__(self) -> Iterator[ElementFuture]:
        return self._futures.each(range(len(self)))

    def as_completed(self, timeout: float | None = None) -> Iterator[ElementFuture]:
        """The elements' futures as they end, first those that have ended already.

        `concurrent.futures.as_completed` gives the same, and makes a set of all futures before, which takes some
        hundred bytes each. This one holds none, so it goes through a million elements.

        Raises
        ------
        CKTimeoutError
            Not all have ended ``timeout`` seconds after the first was asked for; the job goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            news = self._all_waiters.listen(self._table.ended())
        try:
            left = len(self)
            while left:
                start, flags = self._next(news, until, timeout)
                left -= flags.count(1)
                yield from self._futures.each(compress(range(start, start + len(flags)), flags))
        finally:
            self._all_waiters.leave(news)

    def _next(self, news: deque[Ended], until: float | None, timeout: float | None) -> Ended:
        """What has ended since; waits for it."""
        with self._collector.attended(), self._condition:
            if not self._condition.wait_for(lambda: news, until and until - time.monotonic()):
                raise self._late(timeout)
            return news.popleft()

    def cancel(self) -> bool:
        """End the Batch job. Results that are stored stay reachable; returns False when all had ended by then."""
        if self.done():
            return self.cancelled()
        collector = self._collector
        with collector.held():
            self.job.terminate("Cancelled by its future")
            collector.stop()
            try:
                collector.take_last()
            finally:  # Also after Ctrl-C: nobody looks for results any more, so nobody may wait for them.
                try:
                    collector.cancel_elements()
                finally:
                    cancelled = self._cancel() if self._table.any_in(CANCELLED) else not collector.complete()
            return cancelled

    def _cancel(self) -> bool:
        """Cancel by the rule of `Future`, and tell those who wait."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def reduce(self, func: Any, **choices: Any) -> ReducedFuture:
        """Call ``func`` once with the list of all results, in a job of its own: see `cloudknot.BatchJob.reduce`.

        Returns at once with the future of what it returns.
        """
        reduced: ReducedFuture = self.job.reduce(func, **choices)
        return reduced

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
        """Run the elements again that ended without a result: see `cloudknot.BatchJob.retry_failed`."""
        if self.job is None:
            return self
        again: MapFuture = self.job.retry_failed(
            memory, timeout, vcpus, retries, chunksize=chunksize, progress=progress
        )
        return again

    def _outcome(self) -> Outcome:
        if self.cancelled():
            raise CancelledError
        if (index := self._table.first_without_value()) is not None:
            # It is held, so that its error stays the same object.
            self._first_error = self._futures[index]
            return None, self._first_error._outcome()[1]
        return self._loader.list_of_all(self._futures.loaded)


class ReducedFuture(MapFuture):
    """The future of one value that ``reduce`` returns. As a sequence it has one element, the same."""

    def _outcome(self) -> Outcome:
        values, error = super()._outcome()
        return (values, error) if error is not None else (values[0], None)


class _EmptyMap(MapFuture):
    """The future of a map without elements: it has no job, and there is nothing to collect."""

    def __init__(self) -> None:
        CloudFuture.__init__(self)
        self.job, self._table, self._all_waiters = None, ElementTable(0), Waiters(0)
        self._condition, self._waiters = self._all_waiters.condition, self._all_waiters.of_map
        self.set_result(None)

    def __getitem__(self, index: Any) -> Any:
        return list(range(0)[index])

    def __iter__(self) -> Iterator[ElementFuture]:
        return iter(())

    def reduce(self, func: Any, **choices: Any) -> ReducedFuture:
        """Refuse: there is no job to wait for."""
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
    """The parts of one future of a map, for those who look behind it."""

    table: ElementTable
    packs: Packs
    collector: Collector
    future: MapFuture

    @property
    def ended(self) -> bool:
        """Whether the map has ended for this future."""
        return self.future.done()


def collect(
    view: RunView,
    growth: Growth,
    job: Any,
    *,
    max_threads: int = 64,
    how_to_return: str = "",
    progress: Progress | None = None,
    earlier: Collection | None = None,
) -> Collection:
    """Begin to collect the results of a run.

    Parameters
    ----------
    view : RunView
    growth : Growth
    job : BatchJob
        The future's attribute of that name, which ends the job, too.
    max_threads : int
        Results fetched at once.
    how_to_return : str
        Where the job is found again, for errors.
    progress : Progress, optional
        Where progress is shown.
    earlier : Collection, optional
        An earlier one of the same run: its values are not looked for again.
    """
    manifest = view.run.manifest
    table = earlier.table.reopened() if earlier else ElementTable(manifest.count)
    packs = earlier.packs if earlier else Packs(view)
    collector = Collector(
        view,
        table,
        Waiters(len(table)),
        packs,
        status=MapStatus(view, table, progress, how_to_return),
        growth=growth,
        terminate=job.terminate,
        max_threads=max_threads,
    )
    kind = ReducedFuture if manifest.gather else MapFuture
    future = kind(collector, table, Loader(view, table, packs, growth, max_threads), job)
    return Collection(table, packs, collector, future)
