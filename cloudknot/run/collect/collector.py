"""The collector: finds results in S3 as they appear, and tells a map's future what became of each element.

One thread a map looks; a `ThreadPoolExecutor` fetches. It lists the output prefix (1,000 keys a request) and asks
Batch for one description of the job, so a look costs the same however many elements there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from cloudknot.aws import batch
from cloudknot.errors import CloudknotError, JobRunningError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.run.collect.outage_timer import Patience, Silence
from cloudknot.run.collect.pack_cache import Packs, submit
from cloudknot.worker.wire.keys import Location

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


class Source(Patience, Protocol):
    """What the collector must know of a job; `cloudknot.run.jobs.job.BatchJob` is one."""

    def stored(self, element: int) -> Iterator[list[tuple[Location, int]]]:
        """The stored packs and their sizes, by pages, in order; all that may have ``element`` or later ones."""

    def poll(self, known: set[int]) -> tuple[set[int], bool]:
        """The children that failed, besides those in ``known``, and whether the whole job has ended."""

    def describe(self, children: Iterable[int]) -> dict[int, batch.Job]:
        """Batch's descriptions of children; an empty one where Batch knows a child no more."""

    def spans(self, child: int) -> Iterable[range]:
        """The elements of a child, as consecutive ones."""

    def span_of(self, element: int) -> tuple[int, int]:
        """The child of an element, and the end of the consecutive elements from it on that it has, too."""

    def begin_of(self, element: int) -> int:
        """The lowest element with which a pack may begin that has an element."""

    def current(self, location: Location, kinds: bytes) -> bytes:
        """The kinds of a pack's outcomes, with another value for those that do not count."""

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Whether what a child left without a result is to be run again with more memory, once all has ended."""

    def grow(self, elements: Sequence[int]) -> None:
        """Run elements again with more memory."""

    def end_stuck(self, endings: Mapping[int, batch.Job]) -> None:
        """End the whole job if children ended because no machine could ever take them: the others are as they."""


class Sink(Protocol):
    """Who is told; `cloudknot.run.collect.map_future.MapFuture` is one."""

    def wanted(self) -> bool:
        """Whether somebody still waits, so that the interpreter may not end."""

    def gap(self, start: int) -> int:
        """The first element from ``start`` on that has not ended; the number of all when there is none."""

    def takes(self, pack: Location) -> bool:
        """Whether a pack may say something new of an element."""

    def store(self, location: Location, size: int, kinds: bytes) -> None:
        """Take the outcomes in a pack of ``size`` bytes; ``kinds`` are those of its envelopes."""

    def fail(self, child: int, job: batch.Job) -> None:
        """A child's job ended without a result for those of its elements that have not ended."""

    def give_up(self, error: CloudknotError) -> None:
        """Nothing more can be learned about the elements that are left."""

    def complete(self) -> bool:
        """Whether every element has ended; ends the map's future if so."""

    def looked(self) -> None:
        """The collector has looked once more."""

    def left(self) -> None:
        """The collector looks no more."""


class Collector:
    """Resolves one map.

    Parameters
    ----------
    source : Source
    sink : Sink
    packs : Packs
        Through which packs are read.
    count : int
        Number of elements.
    max_threads : int
        Packs read at once.
    taken : iterable of Location
        Packs with failures that do not count any more, and nothing else that is not known.
    clock : callable
        Seconds now.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        packs: Packs,
        count: int,
        max_threads: int,
        taken: Iterable[Location] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._sink, self._packs = source, sink, packs
        self._count, self._max_threads = count, max_threads
        self._clock = clock
        self._from = 0
        self._failed: set[int] = set()
        self._taken = set(taken)
        self._stop, self._held = threading.Event(), threading.Event()
        self._lock, self._growing = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._silence = Silence(source, clock)

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
            logger.warning("What a cancelled map stored last could not be read; job.future() looks again: %s", error)

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
            logger.exception("The collector of results failed")
            self._sink.give_up(CloudknotError(f"Results could not be collected: {error!r}"))
        finally:
            self._sink.left()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch")

    def _look_until_complete(self, pool: ThreadPoolExecutor) -> None:
        started = self._clock()
        while not self._stop.is_set():
            begun = self._clock()
            self._look_patiently(pool)
            self._sink.looked()
            if self._sink.complete():
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
            if self._sink.wanted():
                return False
            self._thread = None
            return True

    def _look_patiently(self, pool: ThreadPoolExecutor) -> None:
        """Look once; a cloud that does not answer is asked again until the source's patience ends."""
        begun = self._clock()
        try:
            self._look(pool)
        except JobRunningError:
            # Another session is submitting what would grow, or died when it did: the next look knows more.
            self._silence.ended(begun)
        except (PermissionDeniedError, ResourceDoesNotExistException) as error:
            self._sink.give_up(error)
        except CloudknotError as error:
            if self._silence.is_too_long(error, begun):
                self._sink.give_up(error)
        else:
            self._silence.ended(begun)

    def _look(self, pool: ThreadPoolExecutor) -> None:
        # Batch is asked first: what a child stored before it ended is then in the listing that follows.
        failed, ended = self._source.poll(self._failed)
        self._take_new(pool, whole=ended or bool(failed))
        if self._held.is_set():
            return
        endings = self._source.describe(self._unfinished() if ended else sorted(failed))
        if not ended:
            self._source.end_stuck(endings)
        short = [child for child, job in endings.items() if self._source.may_grow(child, job)]
        for child in endings.keys() - set(short):
            self._sink.fail(child, endings[child])
        self._failed |= failed
        if ended and short:
            self._grow(short)

    def _grow(self, children: Sequence[int]) -> None:
        with self._growing:
            if not (self._held.is_set() or self._stop.is_set()):
                self._source.grow(sorted(self._waiting(children)))

    def _unfinished(self) -> list[int]:
        """The children with elements that have not ended."""
        children: dict[int, None] = {}
        gap = self._sink.gap(0)
        while gap < self._count:
            child, stop = self._source.span_of(gap)
            children[child] = None
            gap = self._sink.gap(stop)
        return list(children)

    def _waiting(self, children: Iterable[int]) -> Iterator[int]:
        """The elements of some children that have not ended."""
        for span in (span for child in children for span in self._source.spans(child)):
            gap = self._sink.gap(span.start)
            while gap < span.stop:
                yield gap
                gap = self._sink.gap(gap + 1)

    def _take_new(self, pool: ThreadPoolExecutor, whole: bool) -> None:
        """Take what is stored for the elements that have not ended.

        What lies between them is passed over, not listed. A look that is not ``whole`` ends after a few pages, and
        the next one goes on where it stopped: also with many gaps among very many packs, a look stays short.
        """
        gap = self._sink.gap(0 if whole else self._from)
        if gap == self._count:
            # All that is left lies before, or ended while Batch was asked.
            self._from = 0
            return
        pages, left, last = self._source.stored(gap), MAX_PAGES, -1
        while page := next(pages, None):
            self._take(pool, page)
            before, last, left = last, page[-1][0].first, left - 1
            gap = self._sink.gap(max(gap, last + 1))
            if gap == self._count:
                break
            if not (left or whole):
                self._from = gap
                return
            # Packs are in the order of their first elements, and those of an element begin within its chunk. Behind a
            # short page there is nothing to pass over, and what was stored meanwhile is for the next look.
            if len(page) >= SHORT_PAGE and self._source.begin_of(gap) > last > before:
                pages = self._source.stored(gap)
        self._from = 0

    def _take(self, pool: ThreadPoolExecutor, page: list[tuple[Location, int]]) -> None:
        new = [(each, size) for each, size in page if self._is_new(each)]
        reads = [submit(pool, self._packs.kinds, each, size) for each, size in new]
        for (each, size), read in zip(new, reads, strict=True):
            kinds = read.result()
            current = self._source.current(each, kinds)
            self._sink.store(each, size, current)
            if self._sink.takes(each):
                # Nothing more can be learned of it.
                self._taken.add(each)

    def _is_new(self, pack: Location) -> bool:
        return self._sink.takes(pack) and pack not in self._taken
