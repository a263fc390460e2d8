"""Collector: finds results in S3 as they appear, and writes the state of each element into the table.

Each map has one thread that polls, and a `ThreadPoolExecutor` that downloads. A poll lists the outputs in S3 (1,000
keys for each request) and asks Batch for one description of the job, so its cost does not grow with the elements.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudknot.aws import batch
from cloudknot.aws.sdk import forks
from cloudknot.display.terminal import at_prompt
from cloudknot.errors import (
    CloudError,
    CloudknotError,
    JobRunningError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
)
from cloudknot.options import streams
from cloudknot.run.collect.element_errors import brief, brief_damage, brief_ending
from cloudknot.run.collect.element_table import CANCELLED, GIVEN_UP, LOST, ElementTable, Ended
from cloudknot.run.collect.job_failures import Growth, never_runs_reason
from cloudknot.run.collect.map_status import MapStatus
from cloudknot.run.collect.pack_cache import Packs, submit
from cloudknot.run.collect.timers import OutageTimer, PollTimer
from cloudknot.run.collect.waiters import Callback, Waiters, notify, run_all
from cloudknot.worker.wire.failure import ABSENT, DAMAGED
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.seal import UnusableError

if TYPE_CHECKING:
    from cloudknot.run.collect.element_future import ElementFutures
    from cloudknot.run.collect.run_view import RunView


BATCH_PAUSE = 0.25
"""Least seconds between two questions to Batch. Results are in S3, and Batch only knows of children without one."""
MAX_PAGES = 10
"""Pages of 1,000 keys that a poll lists, unless a child has failed."""
SHORT_PAGE = 500
"""Fewest keys in a page (at most 1,000) for which a new listing is worth its request."""
EXIT_CHECK = 0.1
"""Seconds between checks whether the main thread has ended."""
CANNOT_COLLECT = "This machine cannot start a thread to collect results (%s). Call result() to try again."


class Collector:
    """The thread that resolves the futures of one map.

    Parameters
    ----------
    view : RunView
    table : ElementTable
        The states of the elements. Only the collector writes it.
    waiters : Waiters
    packs : Packs
        The cache for reading packs.
    status : MapStatus
        Updated after each poll.
    growth : Growth
        Runs elements that ran out of memory again.
    terminate : callable
        Ends the job, with a reason.
    max_threads : int
        Number of packs to read at the same time.
    is_new : bool
        Whether this session has just submitted the newest round. Then its failures are news, even if the job has ended
        before the first poll.
    clock : callable
        Returns the time in seconds.

    Attributes
    ----------
    round : int
        The newest round at the last poll. `BatchJob` compares it with the newest round of the run, and so sees that an
        ended future is outdated.
    polled : Event
        Set after the first poll that the cloud has answered, and when the collector has given up.
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
        is_new: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._table, self.waiters, self._packs = view, table, waiters, packs
        self.status, self._growth, self._terminate = status, growth, terminate
        self._count, self._max_threads = len(table), max_threads
        self._clock = clock
        self.round = view.newest_round
        self._future: Future[Any] | None = None
        self._futures: ElementFutures | None = None
        self._next_gap = 0
        self._failed: set[int] = set()
        self._next_question, self._has_looked = -math.inf, is_new
        self._done_packs: set[Location] = set()
        self._damaged: dict[Location, int] = {}
        self._make_thread_state()
        self._outage = OutageTimer(view.cloud, clock)
        forks.renew(self)

    def _make_thread_state(self) -> None:
        self._stop, self._holds_failures, self.polled = threading.Event(), threading.Event(), threading.Event()
        self._lock, self._growing = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def job_id(self) -> str:
        """The id of the job in Batch."""
        return self._view.job_id

    def after_fork(self) -> None:
        """Be ready to start a thread of this process. The display and everything that waits stay with the parent."""
        self._make_thread_state()
        self.waiters.forget()
        self.status.hide()
        if self._future is not None:
            self._future._done_callbacks = []  # type: ignore[attr-defined]

    def is_running(self, element: int) -> bool:
        """Return whether a pending element is in a child that was running at the last poll."""
        return self._view.is_running(element)

    def serve(self, future: Future[Any], futures: ElementFutures) -> None:
        """Start to collect for the future of a map and the futures of its elements."""
        self._future, self._futures = future, futures
        self.waiters.serve(self.collect)
        try:
            self.collect()
        except RuntimeError as error:
            # The map is submitted by now, so its future is not lost for a thread that this machine cannot start.
            streams.logger.warning(CANNOT_COLLECT, error)

    def collect(self) -> None:
        """Start the thread, unless the map has ended."""
        if self._future is not None and not self._future.done():
            self.start()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Collect results while a caller waits inside the block.

        Ctrl-C gets a note that explains how to find the job again. After Ctrl-C, and in an interactive session after
        every wait, the progress bar leaves the terminal to the user.
        """
        pause_bar = at_prompt()
        with self.waiters.calls.counted():
            self.collect()
            self.status.resume()
            try:
                yield
            except KeyboardInterrupt as interrupt:
                pause_bar = True
                interrupt.add_note(f"The job keeps running. {self.status.how_to_return} End it: future.cancel()")
                raise
            finally:
                if pause_bar:
                    self.status.pause()

    def start(self) -> None:
        """Start the thread, or start it again after it has left because the main thread had ended."""
        with self._lock:
            if self._thread is None:
                # Not a daemon, which the interpreter would stop in the middle of a callback, and not a thread of an
                # executor, which would delay every exit. The thread leaves by itself when the main thread has ended
                # and nothing waits: see `_pause`.
                thread = threading.Thread(target=self._run, name="cloudknot-collector", daemon=False)
                thread.start()
                # A thread that could not start is not the collector: the next wait tries again.
                self._thread = thread

    def stop(self) -> None:
        """Make the thread end before its next poll."""
        self._stop.set()

    def take_last(self) -> None:
        """Store in the table all outcomes that are in S3 by now. Call it after the job was ended."""
        try:
            with self._new_pool() as pool:
                self._take_new(pool, whole=True)
        except CloudknotError as error:
            streams.logger.warning(
                "The last results of a cancelled map could not be read. Read them with job.future(). Cause: %s", error
            )

    @contextmanager
    def failures_held(self) -> Iterator[None]:
        """Collect values but no failures inside the block, and start no memory growth.

        `MapFuture.cancel` uses it, so that elements of the job that it ends become cancelled, not failed.
        """
        self._holds_failures.set()
        # Wait for a running memory-growth submission, so that the block can end that job too.
        with self._growing:
            pass
        try:
            yield
        finally:
            self._holds_failures.clear()

    def _run(self) -> None:
        """Look until all elements have ended: the target of the thread."""
        try:
            with self._new_pool() as pool:
                self._look_until_complete(pool)
        except BaseException as error:
            streams.logger.exception("The thread that collects results failed")
            self._give_up(CloudknotError(f"The thread that collects results failed: {error!r}"))
        finally:
            self.polled.set()
            self.status.stop()
            self.release()

    def release(self) -> None:
        """Drop the futures and packs of a map that has ended. They then live as long as a caller holds them."""
        # Not by the garbage collector: results may be large, and yet too few objects for it to start.
        if self._future is not None and self._future.done():
            # A callback usually refers to its future. The standard library keeps callbacks that have run.
            self._future._done_callbacks = []  # type: ignore[attr-defined]
            self._future, self._futures, self._packs = _ended_future(), None, Packs(self._view)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch")

    def _look_until_complete(self, pool: ThreadPoolExecutor) -> None:
        timer = PollTimer(self._count, self._clock)
        while not self._stop.is_set():
            begun = self._clock()
            self._poll_patiently(pool)
            self.status.update()
            if self.complete():
                return
            if self._pause(timer.pause(begun, self._count - self._table.pending)):
                return

    def _pause(self, seconds: float) -> bool:
        """Wait between two polls; return whether the thread is to end instead of looking again."""
        end = self._clock() + seconds
        while (remaining := end - self._clock()) > 0:
            if self._stop.wait(min(remaining, EXIT_CHECK)):
                return True
            # The interpreter waits for this thread when it ends. A script that only submitted must end at once. One
            # with callbacks that have not run must wait for them, as with `concurrent.futures`.
            if not threading.main_thread().is_alive() and self._leave():
                return True
        return False

    def _leave(self) -> bool:
        """Return whether the thread may end, because nothing waits. A later wait then starts a new thread."""
        with self._lock:
            if self.waiters:
                return False
            self._thread = None
            return True

    def _poll_patiently(self, pool: ThreadPoolExecutor) -> None:
        """Look once. An error of the cloud counts as an outage, and ends the map when the outage is too long."""
        begun = self._clock()
        try:
            self._poll(pool)
        except JobRunningError:
            # Another session is submitting a retry, or died while it did. The next poll shows which.
            self._outage.answered(begun)
        except (PermissionDeniedError, ResourceDoesNotExistException) as error:
            # These do not pass by waiting.
            self._give_up(error)
        except CloudknotError as error:
            if self._outage.should_give_up(error, begun):
                self._give_up(error)
        else:
            self._outage.answered(begun)
            self.polled.set()

    def _poll(self, pool: ThreadPoolExecutor) -> None:
        """Read new outcomes, end the elements of ended children, and let memory grow."""
        self.round = self._view.newest_round
        # Batch is asked before S3, so the listing contains everything that an ended child had stored.
        failed, ended = self._ask_batch()
        self.status.ended_before |= ended and not self._has_looked
        self._has_looked = True
        # All packs of a failed child must be known before its pending elements end without a result.
        self._take_new(pool, whole=ended or bool(failed))
        if self._holds_failures.is_set():
            return
        endings = self._view.describe(self._unfinished() if ended else sorted(failed))
        if not ended:
            self._end_stuck(endings)
        growing = [child for child, job in endings.items() if self._growth.may_grow(child, job)]
        for child in endings.keys() - set(growing):
            self._lose(child, endings[child])
        self._failed |= failed
        # After the end of the whole job, so that all elements that ran out of memory share one round.
        if ended and growing:
            self._grow(growing)

    def _ask_batch(self) -> tuple[set[int], bool]:
        """Return the newly failed children, and whether the whole job has ended; nothing between two questions."""
        if self._clock() < self._next_question:
            return set(), False
        answer = self._view.poll(self._failed)
        self._next_question = self._clock() + BATCH_PAUSE
        return answer

    def _end_stuck(self, endings: Mapping[int, batch.Job]) -> None:
        """End the job if its queue has ended a child that no machine could ever run."""
        # All children request the same resources. Batch alone would end one after the other, each after its own ten
        # minutes.
        start = self._view.newest_start
        reasons = [reason for child, job in endings.items() if child >= start and (reason := never_runs_reason(job))]
        try:
            if reasons:
                self._terminate(reasons[0])
        except CloudError as error:
            streams.logger.warning(
                "Job %s can never run, and cloudknot could not end it. End it with future.cancel(). Cause: %s",
                self._view.job_id,
                error,
            )

    def _grow(self, children: Sequence[int]) -> None:
        """Run the pending elements of some children again with more memory."""
        with self._growing:
            if not (self._holds_failures.is_set() or self._stop.is_set()):
                self._growth.grow(sorted(self._pending(children)))

    def _unfinished(self) -> list[int]:
        """Return the children with pending elements."""
        children: dict[int, None] = {}
        gap = self._table.gap(0)
        while gap < self._count:
            child, stop = self._view.span_of(gap)
            children[child] = None
            gap = self._table.gap(stop)
        return list(children)

    def _pending(self, children: Iterable[int]) -> Iterator[int]:
        """Yield the pending elements of some children."""
        for span in (span for child in children for span in self._view.spans(child)):
            gap = self._table.gap(span.start)
            while gap < span.stop:
                yield gap
                gap = self._table.gap(gap + 1)

    def _take_new(self, pool: ThreadPoolExecutor, whole: bool) -> None:
        """Store new outcomes of pending elements in the table.

        A poll that is not ``whole`` ends after `MAX_PAGES` pages, so it stays short with any number of packs. The next
        one continues there.
        """
        gap = self._table.gap(0 if whole else self._next_gap)
        if gap == self._count:
            # All pending elements lie before, or ended while Batch was asked.
            self._next_gap = 0
            return
        pages, pages_left, last = self._view.list_packs(gap), MAX_PAGES, -1
        while page := next(pages, None):
            self._take_page(pool, page)
            previous, last, pages_left = last, page[-1][0].first, pages_left - 1
            gap = self._table.gap(max(gap, last + 1))
            if gap == self._count:
                break
            if not (pages_left or whole):
                self._next_gap = gap
                return
            # Skip the packs between here and the next pending element with a new listing from there. With one
            # straggler at the front, a poll then costs one page, not the keys of all ended elements behind it.
            # Packs are in the order of their first elements, and a pack begins within the chunk of its elements.
            # Behind a short page nothing is left to skip, and packs stored since are for the next poll.
            if len(page) >= SHORT_PAGE and self._view.first_pack_start(gap) > last > previous:
                pages = self._view.list_packs(gap)
        self._next_gap = 0

    def _take_page(self, pool: ThreadPoolExecutor, page: Sequence[tuple[Location, int]]) -> None:
        """Read the new packs of a page, and store their outcomes in the table in the order of the page."""
        new = [(pack, size) for pack, size in page if self._is_new(pack)]
        reads = [submit(pool, self._packs.kinds, pack, size) for pack, size in new]
        for (pack, size), read in zip(new, reads, strict=True):
            kinds = read.result()
            if kinds is None:
                # Other packs may have outcomes of the same elements, so these wait for the end of their child.
                self._damaged[pack] = size
                self._done_packs.add(pack)
                continue
            self._store(pack, size, self._view.mark_outdated(pack, kinds))
            if self._table.takes(pack):
                # The pack leaves elements pending, for example with outdated failures, and has nothing more to add.
                self._done_packs.add(pack)

    def _is_new(self, pack: Location) -> bool:
        return self._table.takes(pack) and pack not in self._done_packs

    def _store(self, location: Location, size: int, kinds: bytes) -> None:
        """Store in the table the outcomes, of these ``kinds``, of a pack of ``size`` bytes."""
        self._report_failure(location, size, kinds)
        with self.waiters.condition:
            callbacks = self._wake(self._table.store(location, size, kinds))
        # Without the lock, so that a callback may call anything.
        run_all(callbacks)

    def _report_failure(self, location: Location, size: int, kinds: bytes) -> None:
        """Report the first failure of the map, if it is in this new pack."""
        # Before the waiters wake, because a script may end with the error. Without the lock, because this may read S3.
        failed = self._table.new_failures(location, kinds) if self.status.reports_failure else []
        if failed:
            describe = partial(self._brief, location, size, failed[0] - location.first)
            self.status.fail(failed[0], describe, self._table.without_value + len(failed))

    def _brief(self, location: Location, size: int, position: int) -> str:
        """Return the failure at a position of a pack, in one line."""
        try:
            return brief(self._packs.failure(location, size, position))
        except UnusableError as error:
            return brief_damage(error)

    def _lose(self, child: int, job: batch.Job) -> None:
        """End the pending elements of a child, because its job has ended."""
        self._table.add_ending(child, job)
        for span in self._view.spans(child):
            self._end_with_damaged_packs(span)
            gap = self._table.gap(span.start)
            if gap < span.stop:
                end = self._table.endings[child][0]
                self.status.fail(gap, partial(brief_ending, end), self._table.without_value + span.stop - gap)
            self._end(span, LOST)

    def _end_with_damaged_packs(self, elements: range) -> None:
        """End pending elements with the error of a damaged pack that may have their outcome."""
        for pack, size in self._damaged.items():
            start, stop = max(pack.first, elements.start), min(pack.first + pack.number, elements.stop)
            if start < stop:
                kinds = bytes([ABSENT]) * (start - pack.first) + bytes([DAMAGED]) * (stop - start)
                self._store(pack, size, self._view.mark_outdated(pack, kinds))

    def _give_up(self, error: CloudknotError) -> None:
        """End all pending elements, and so the map, with ``error``."""
        self._table.given_up_with = error
        self._end(range(self._count), GIVEN_UP)
        self.complete()

    def cancel_elements(self) -> None:
        """End all pending elements as cancelled."""
        self._end(range(self._count), CANCELLED)

    def _end(self, elements: range, state: int) -> None:
        with self.waiters.condition:
            callbacks = self._wake(self._table.end(elements, state))
        run_all(callbacks)

    def _wake(self, ended: Ended) -> list[Callback]:
        """Wake the waiters for elements that have just ended, and return the callbacks to run. Hold the lock."""
        if not self._table.pending:
            # Before the waiters: the cell of a notebook may end with the wait, and drops later output.
            self.status.show()
        futures = self._futures
        if futures is not None:
            for waiter, indices in self.waiters.of_elements.ended(*ended):
                for element in futures.each(indices):
                    notify(waiter, element, self._table.state(element.index))
        return self.waiters.wake(ended)

    def complete(self) -> bool:
        """End the future of the map if all elements have ended; return whether it has ended."""
        table, future = self._table, self._future
        assert future is not None
        if table.pending == 0 and not future.done() and not table.any_in(CANCELLED):
            # A future that was cancelled during the poll stays cancelled.
            with suppress(InvalidStateError):
                if table.without_value:
                    future.set_exception(
                        CloudknotError("Elements have no result. See the cause: MapFuture.exception()")
                    )
                else:
                    future.set_result(None)
        return future.done()


def _ended_future() -> Future[Any]:
    """Return a future that has ended, in place of one that the collector has released."""
    future: Future[Any] = Future()
    future.set_result(None)
    return future
