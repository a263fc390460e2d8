"""MapFuture: the future of a map's list of results, and a sequence of its elements' own futures.

Its collector tells it how elements end. Results are read when they are asked for: see `cloudknot.run.collect.loader`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, InvalidStateError
from contextlib import AbstractContextManager, suppress
from itertools import compress
from typing import Any, overload

from cloudknot.aws import batch
from cloudknot.display.progress import Progress, summary
from cloudknot.errors import CloudknotError, CloudknotInputError
from cloudknot.run.collect.collector import Collector
from cloudknot.run.collect.element_errors import as_ending
from cloudknot.run.collect.element_future import (
    LOCK,
    Callback,
    CloudFuture,
    ElementFuture,
    ElementFutures,
    cancel_future,
)
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP, LOST, VALUE, Elements, Ended
from cloudknot.run.collect.loader import Job, Outcome, Results
from cloudknot.run.collect.pack_cache import Packs
from cloudknot.run.collect.queue_reasons import StuckWatch, explain
from cloudknot.run.collect.snapshot import snapshot
from cloudknot.run.collect.waiters import MapWaiters, Waiters, Waiting, attended, run_all, tell
from cloudknot.worker.wire.keys import Location

logger = logging.getLogger("cloudknot")


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

    def __init__(
        self,
        job: Job | None,
        count: int,
        max_threads: int = 64,
        how_to_return: str = "",
        progress: Progress | None = None,
        earlier: MapFuture | None = None,
    ) -> None:
        super().__init__()
        self._condition, self._waiters = threading.Condition(LOCK), MapWaiters(self.collect)
        self.job: Any = job
        self.waiting, self.how_to_return, self._progress = Waiting(), how_to_return, progress
        # An earlier future of the same map knows values, which are not looked for again.
        self.elements: Elements = earlier.elements.reopened() if earlier is not None else Elements(count)
        self._futures = ElementFutures(self)
        self.element_waiters, self.callbacks = Waiters(count, self.collect), dict[int, list[Callback]]()
        self._listeners: dict[int, deque[Ended]] = {}
        self._making_list = threading.RLock()
        self._made_list: list[Any] | None = None if job is not None else []
        if job is None:
            self._collector = None
            self.set_result(None)
            return
        self.stuck = StuckWatch()
        packs: Packs | None = earlier.results.packs if earlier is not None else None
        self.results: Results = Results(job, self.elements, max_threads, packs)
        self._collector = Collector(job, self, self.results.packs, count, max_threads)
        self.collect()

    def __repr__(self) -> str:
        left, failed = self.elements.left, self.elements.without_value
        lacking = f", {failed} without a result" if failed else ""
        return f"<MapFuture of {len(self)} elements: {len(self) - left} done{lacking}>"

    @property
    def _owner(self) -> MapFuture:
        return self

    def collect(self) -> None:
        if self._collector is not None and not self.done():
            self._collector.start()

    def attended(self) -> AbstractContextManager[None]:
        """Somebody waits meanwhile, and is told how to come back if Ctrl-C ends that."""
        return attended(self.waiting, self.collect, self._progress, self.how_to_return)

    def __len__(self) -> int:
        return len(self.elements)

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
            news: deque[Ended] = deque([self.elements.ended()])
            self._listeners[id(news)] = news
        try:
            left = len(self)
            while left:
                start, flags = self._next(news, until, timeout)
                left -= flags.count(1)
                yield from self._futures.each(compress(range(start, start + len(flags)), flags))
        finally:
            # Without a lock: the garbage collector closes generators in any thread, whatever that one holds.
            self._listeners.pop(id(news), None)

    def _next(self, news: deque[Ended], until: float | None, timeout: float | None) -> Ended:
        """What has ended since; waits for it."""
        with self.attended(), self._condition:
            if not self._condition.wait_for(lambda: news, until and until - time.monotonic()):
                raise self._late(timeout)
            return news.popleft()

    def cancel(self) -> bool:
        """End the Batch job. Results that are stored stay reachable; returns False when all had ended by then."""
        if self.done():
            return self.cancelled()
        if self._collector is None:
            return cancel_future(self)
        with self._collector.held():
            self.job.terminate("Cancelled by its future")
            self._collector.stop()
            try:
                self._collector.take_last()
            finally:  # Also after Ctrl-C: nobody looks for results any more, so nobody may wait for them.
                try:
                    self._end(range(len(self)), CANCELLED)
                finally:
                    cancelled = cancel_future(self) if self.elements.any_in(CANCELLED) else not self.complete()
            return cancelled

    def reduce(self, func: Any, **choices: Any) -> ReducedFuture:
        """Call ``func`` once with the list of all results, in a job of its own: see `cloudknot.BatchJob.reduce`.

        Returns at once with the future of what it returns.
        """
        if self.job is None:
            raise CloudknotInputError(
                "An empty map has no job whose results a job could gather. Call the function here."
            )
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
        with self._making_list:
            if self._made_list is not None:
                return self._made_list, None
            if (index := self.elements.first_without_value()) is not None:
                self._first_error = self._futures[index]
                return None, self._first_error._outcome()[1]
            try:
                self._made_list = self._make_list()
            except CloudknotError as error:
                return None, as_ending(error, self.job.place(0))
            return self._made_list, None

    def _make_list(self) -> list[Any]:
        values = self.results.values()
        for index, value in self._futures.loaded():
            values[index] = value
        return values

    def outcome_of(self, index: int) -> tuple[Outcome, bool]:
        """The outcome of an element that has ended, and whether it would be the same the next time."""
        if self._made_list is not None:
            return (self._made_list[index], None), True
        try:
            with self._condition:
                known = self.elements.known(index)
            outcome = self.results.outcome(index, *known)
            return outcome, known[0] != VALUE or outcome[1] is None  # What cannot be unpickled now may be later.
        except CloudknotError as error:
            return (None, as_ending(error, self.job.place(index))), False

    def so_far(self) -> str:
        """How the map gets on as far as the collector has seen, in sentences that end with a space."""
        now = snapshot(self.elements, self.job.states, "")
        return f"So far {summary(now, len(self))}. {self.stuck.why}"

    # What follows is called by the collector.

    def wanted(self) -> bool:
        """Whether somebody waits for this map, by a call or a callback."""
        return bool(self.waiting or self._waiters or self.element_waiters)

    def gap(self, start: int) -> int:
        """The first element from ``start`` on that has not ended; the number of all when there is none."""
        return self.elements.gap(start)

    def takes(self, pack: Location) -> bool:
        """Whether a pack may say something new of an element."""
        return self.elements.takes(pack)

    def store(self, location: Location, size: int, kinds: bytes) -> None:
        """Take the outcomes in a pack of ``size`` bytes; ``kinds`` are those of its envelopes."""
        with self._condition:
            ended = self.elements.store(location, size, kinds)
            callbacks = self._tell(ended)
        run_all(callbacks)

    def fail(self, child: int, job: batch.Job) -> None:
        """A child's job ended without a result for those of its elements that have not ended."""
        self.results.lost(child, job)
        for span in self.job.spans(child):
            self._end(span, LOST)

    def give_up(self, error: CloudknotError) -> None:
        """End every element that is left, and so the map, with ``error``."""
        self.results.give_up(error)
        self._end(range(len(self)), GIVEN_UP)
        self.complete()

    def _end(self, elements: range, state: int) -> None:
        with self._condition:
            callbacks = self._tell(self.elements.end(elements, state))
        run_all(callbacks)

    def _tell(self, ended: Ended) -> list[Callback]:
        """Tell those who wait for elements that have ended, and return their callbacks, which are to run."""
        start, flags = ended
        if not self.elements.left:
            # Before anybody is told: afterwards the cell of a notebook that waits may be over.
            self._show()
        for news in list(self._listeners.values()):
            news.append(ended)
        for waiter, indices in self.element_waiters.ended(start, flags):
            for element in self._futures.each(indices):
                tell(waiter, element, self.elements.state(element.index))
        self._condition.notify_all()
        if not self.callbacks:
            return []
        indices = (index for index in compress(range(start, start + len(flags)), flags) if index in self.callbacks)
        return [callback for index in list(indices) for callback in self.callbacks.pop(index)]

    def complete(self) -> bool:
        """Whether every element has ended; then the map's own future ends too."""
        if self.elements.left == 0 and not self.done() and not self.elements.any_in(CANCELLED):
            # A future that was cancelled in the meantime keeps that ending.
            with suppress(InvalidStateError):
                if self.elements.without_value:
                    self.set_exception(CloudknotError("MapFuture.exception() tells what happened"))
                else:
                    self.set_result(None)
        return self.done()

    def looked(self) -> None:
        """The collector has looked once more: show what it saw."""
        reason = None
        with suppress(CloudknotError):
            reason = self.stuck.look(self.job.states, self.job.reason_of_waiting)
        self._show()
        if reason is not None and self._progress is None:
            logger.warning(explain(self.job.name, reason))

    def _show(self) -> None:
        if self._progress is not None:
            reason = self.stuck.reason
            self._progress.show(snapshot(self.elements, self.job.states, explain(self.job.name, reason)))

    def left(self) -> None:
        """The collector looks no more."""
        if self._progress is not None:
            self._show()
            self._progress.stop()


class ReducedFuture(MapFuture):
    """What ``reduce`` returns: a future of one value. As a sequence it has one element, the same."""

    def _outcome(self) -> Outcome:
        values, error = super()._outcome()
        return (values, error) if error is not None else (values[0], None)
