"""The collector: finds results in S3 as they appear, and writes into the table how each element of a map has ended.

One thread a map looks; a `ThreadPoolExecutor` fetches. It lists the output prefix (1,000 keys a request) and asks
Batch for one description of the job, so a look costs the same however many elements there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cloudknot.aws import batch
from cloudknot.display.terminal import at_prompt
from cloudknot.errors import (
    CloudError,
    CloudknotError,
    JobRunningError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
)
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP, LOST, ElementTable, Ended
from cloudknot.run.collect.job_failures import Growth, never_runs_reason
from cloudknot.run.collect.map_status import MapStatus
from cloudknot.run.collect.outage_timer import OutageTimer
from cloudknot.run.collect.pack_cache import Packs, submit
from cloudknot.run.collect.waiters import Callback, Waiters, run_all, tell
from cloudknot.worker.wire.keys import Location

if TYPE_CHECKING:
    from cloudknot.run.collect.element_future import ElementFutures
    from cloudknot.run.collect.run_view import RunView

logger = logging.getLogger("cloudknot")

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 10.0
PAUSE_SHARE = 0.05
MAX_PAGES = 10
"""Pages of 1,000 keys that a look lists, unless a child has failed."""
SHORT_PAGE = 500
"""Keys of a page of up to 1,000."""
EXIT_CHECK = 0.1
"""Seconds between looks at whether the interpreter wants to end."""


class Collector:
    """Resolves the futures of one map.

    Parameters
    ----------
    view : RunView
    table : ElementTable
        Written by the collector only.
    waiters : Waiters
    packs : Packs
        Through which packs are read.
    status : MapStatus
        Updated after each look.
    growth : Growth
    terminate : callable
        Ends the job for a reason.
    max_threads : int
        Packs read at once.
    clock : callable
        Seconds now.

    Attributes
    ----------
    round : int
        The newest round that the last look knew.
    """

    def __init__(
        self,
        view: RunView,
        table: ElementTable,
        waiters: Waiters,
        packs: Packs,
        *,
        status: MapStatus,
        growth: Growth,
        terminate: Callable[[str], None],
        max_threads: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._table, self.waiters, self._packs = view, table, waiters, packs
        self.status, self._growth, self._terminate = status, growth, terminate
        self._count, self._max_threads = len(table), max_threads
        self._clock = clock
        self.round = view.newest_round
        self._future: Future[Any] | None = None
        self._futures: ElementFutures | None = None
        self._from = 0
        self._failed: set[int] = set()
        self._taken: set[Location] = set()
        self._stop, self._held = threading.Event(), threading.Event()
        self._lock, self._growing = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._outage = OutageTimer(view.cloud, clock)

    def serve(self, future: Future[Any], futures: ElementFutures) -> None:
        """Begin to collect for a map's future, and for those of its elements."""
        self._future, self._futures = future, futures
        self.waiters.serve(self.collect)
        self.collect()

    def collect(self) -> None:
        """Look for results, unless all of them are there: also when nobody waited any more."""
        if self._future is not None and not self._future.done():
            self.start()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Collect results while somebody waits. If Ctrl-C ends that, a note says how to come back.

        After Ctrl-C, and in an interactive session after every wait, the terminal is left to the user.
        """
        leave = at_prompt()
        with self.waiters.calls.one():
            self.collect()
            self.status.resume()
            try:
                yield
            except KeyboardInterrupt as interrupt:
                leave = True
                interrupt.add_note(f"The job keeps running. {self.status.how_to_return} End it: future.cancel()")
                raise
            finally:
                if leave:
                    self.status.pause()

    def start(self) -> None:
        """Begin to look, or go on after the interpreter's end had stopped it."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cloudknot-collector", daemon=False)
                self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def take_last(self) -> None:
        """Take all that was stored, for one who has ended the job."""
        try:
            with self._new_pool() as pool:
                self._take_new(pool, whole=True)
        except CloudknotError as error:
            logger.warning("The last results of a cancelled map could not be read: %s Read them: job.future()", error)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take results meanwhile, but no failures: what ends the job decides what becomes of its elements.

        Nothing is run again meanwhile either; what is just being submitted is waited for, so that it can be ended.
        """
        self._held.set()
        with self._growing:
            pass
        try:
            yield
        finally:
            self._held.clear()

    def _run(self) -> None:
        try:
            with self._new_pool() as pool:
                self._look_until_complete(pool)
        except BaseException as error:
            logger.exception("The thread that collects results failed")
            self._give_up(CloudknotError(f"The thread that collects results failed: {error!r}"))
        finally:
            self.status.stop()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch")

    def _look_until_complete(self, pool: ThreadPoolExecutor) -> None:
        started = self._clock()
        while not self._stop.is_set():
            begun = self._clock()
            self._look_patiently(pool)
            self.status.update()
            if self.complete():
                return
            took, passed = self._clock() - begun, self._clock() - started
            pause = max(SHORTEST_PAUSE, 5 * took, passed * PAUSE_SHARE)
            if self._pause(min(pause, LONGEST_PAUSE)):
                return

    def _pause(self, seconds: float) -> bool:
        """Wait; True when there is nobody left to look for.

        The interpreter waits for this thread when it ends. A program that only submitted must end at once, one whose
        callbacks have not run must wait for them, as with `concurrent.futures`.
        """
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            if self._stop.wait(min(left, EXIT_CHECK)):
                return True
            if not threading.main_thread().is_alive() and self._leave():
                return True
        return False

    def _leave(self) -> bool:
        with self._lock:
            if self.waiters:
                return False
            self._thread = None
            return True

    def _look_patiently(self, pool: ThreadPoolExecutor) -> None:
        """Look once; a cloud that does not answer is asked again until its patience ends."""
        begun = self._clock()
        try:
            self._look(pool)
        except JobRunningError:
            # Another session is submitting what would grow, or died when it did: the next look knows more.
            self._outage.answered(begun)
        except (PermissionDeniedError, ResourceDoesNotExistException) as error:
            self._give_up(error)
        except CloudknotError as error:
            if self._outage.should_give_up(error, begun):
                self._give_up(error)
        else:
            self._outage.answered(begun)

    def _look(self, pool: ThreadPoolExecutor) -> None:
        self.round = self._view.newest_round
        # Batch is asked first: what a child stored before it ended is then in the listing that follows.
        failed, ended = self._view.poll(self._failed)
        self._take_new(pool, whole=ended or bool(failed))
        if self._held.is_set():
            return
        endings = self._view.describe(self._unfinished() if ended else sorted(failed))
        if not ended:
            self._end_stuck(endings)
        short = [child for child, job in endings.items() if self._growth.may_grow(child, job)]
        for child in endings.keys() - set(short):
            self._lose(child, endings[child])
        self._failed |= failed
        if ended and short:
            self._grow(short)

    def _end_stuck(self, endings: Mapping[int, batch.Job]) -> None:
        """End the job if its queue ended a child that no machine could ever take.

        All children ask for the same. By itself Batch would end one after the other, each after its own ten minutes.
        """
        newest = self._view.newest_child
        reasons = [reason for child, job in endings.items() if child >= newest and (reason := never_runs_reason(job))]
        try:
            if reasons:
                self._terminate(reasons[0])
        except CloudError as error:
            logger.warning(
                "Job %s can never run, and cloudknot could not end it: %s End it: future.cancel()",
                self._view.job_id,
                error,
            )

    def _grow(self, children: Sequence[int]) -> None:
        with self._growing:
            if not (self._held.is_set() or self._stop.is_set()):
                self._growth.grow(sorted(self._waiting(children)))

    def _unfinished(self) -> list[int]:
        """The children with elements that have not ended."""
        children: dict[int, None] = {}
        gap = self._table.gap(0)
        while gap < self._count:
            child, stop = self._view.span_of(gap)
            children[child] = None
            gap = self._table.gap(stop)
        return list(children)

    def _waiting(self, children: Iterable[int]) -> Iterator[int]:
        """The elements of some children that have not ended."""
        for span in (span for child in children for span in self._view.spans(child)):
            gap = self._table.gap(span.start)
            while gap < span.stop:
                yield gap
                gap = self._table.gap(gap + 1)

    def _take_new(self, pool: ThreadPoolExecutor, whole: bool) -> None:
        """Take what is stored for the elements that have not ended.

        What lies between them is passed over, not listed. A look that is not ``whole`` ends after a few pages, and
        the next one goes on where it stopped: also with many gaps among very many packs, a look stays short.
        """
        gap = self._table.gap(0 if whole else self._from)
        if gap == self._count:
            # All that is left lies before, or ended while Batch was asked.
            self._from = 0
            return
        pages, left, last = self._view.list_packs(gap), MAX_PAGES, -1
        while page := next(pages, None):
            self._take(pool, page)
            before, last, left = last, page[-1][0].first, left - 1
            gap = self._table.gap(max(gap, last + 1))
            if gap == self._count:
                break
            if not (left or whole):
                self._from = gap
                return
            # Packs are in the order of their first elements, and those of an element begin within its chunk. Behind a
            # short page there is nothing to pass over, and what was stored meanwhile is for the next look.
            if len(page) >= SHORT_PAGE and self._view.first_pack_start(gap) > last > before:
                pages = self._view.list_packs(gap)
        self._from = 0

    def _take(self, pool: ThreadPoolExecutor, page: list[tuple[Location, int]]) -> None:
        new = [(each, size) for each, size in page if self._is_new(each)]
        reads = [submit(pool, self._packs.kinds, each, size) for each, size in new]
        for (each, size), read in zip(new, reads, strict=True):
            kinds = read.result()
            current = self._view.mark_outdated(each, kinds)
            self._store(each, size, current)
            if self._table.takes(each):
                # Nothing more can be learned of it.
                self._taken.add(each)

    def _is_new(self, pack: Location) -> bool:
        return self._table.takes(pack) and pack not in self._taken

    def _store(self, location: Location, size: int, kinds: bytes) -> None:
        """Take the outcomes in a pack of ``size`` bytes; ``kinds`` are those of its envelopes."""
        with self.waiters.condition:
            callbacks = self._wake(self._table.store(location, size, kinds))
        run_all(callbacks)

    def _lose(self, child: int, job: batch.Job) -> None:
        """End the elements of a child that have no result, because its job has ended."""
        self._table.add_ending(child, job)
        for span in self._view.spans(child):
            self._end(span, LOST)

    def _give_up(self, error: CloudknotError) -> None:
        """End every element that is left, and so the map, with ``error``."""
        self._table.given_up_with = error
        self._end(range(self._count), GIVEN_UP)
        self.complete()

    def cancel_elements(self) -> None:
        """End every element that is left as cancelled."""
        self._end(range(self._count), CANCELLED)

    def _end(self, elements: range, state: int) -> None:
        with self.waiters.condition:
            callbacks = self._wake(self._table.end(elements, state))
        run_all(callbacks)

    def _wake(self, ended: Ended) -> list[Callback]:
        """Wake those who wait for elements that have ended, and return their callbacks, which are to run."""
        if not self._table.left:
            # Before anybody is woken: afterwards the cell of a notebook that waits may be over.
            self.status.show()
        if self._futures is not None:
            for waiter, indices in self.waiters.of_elements.ended(*ended):
                for element in self._futures.each(indices):
                    tell(waiter, element, self._table.state(element.index))
        return self.waiters.wake(ended)

    def complete(self) -> bool:
        """Return whether every element has ended; then end the map's future, too."""
        table, future = self._table, self._future
        assert future is not None
        if table.left == 0 and not future.done() and not table.any_in(CANCELLED):
            # A future that was cancelled in the meantime keeps that ending.
            with suppress(InvalidStateError):
                if table.without_value:
                    future.set_exception(
                        CloudknotError("Elements have no result. See the cause: MapFuture.exception()")
                    )
                else:
                    future.set_result(None)
        return future.done()
