"""The collector: finds results in S3 as they appear, and tells a map's future what became of each element.

One thread a map looks; a `ThreadPoolExecutor` fetches. It lists the output prefix (1,000 keys a request) and asks
Batch for one description of the job, so a look costs the same however many elements there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from cloudknot.errors import (
    CloudknotError,
    PermissionDeniedError,
    ResourceDoesNotExistException,
)
from cloudknot.worker.protocol import Pack

logger = logging.getLogger("cloudknot")

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 10.0
PAUSE_SHARE = 0.05
EXIT_CHECK = 0.1
"""Seconds between looks at whether the interpreter wants to end."""


class Source(Protocol):
    """What the collector must know of a job; `cloudknot.job.BatchJob` is one."""

    @property
    def patience(self) -> float:
        """Seconds that the cloud may stay silent before its jobs are given up."""

    def stored(self, first_missing: int) -> Iterable[tuple[str, int, int]]:
        """The stored packs as ``(key, first, count)``, at least those behind ``first_missing``."""

    def fetch(self, key: str) -> bytes:
        """Read a pack."""

    def poll(self, known: set[int]) -> tuple[set[int], bool]:
        """The children that failed, besides those in ``known``, and whether the whole job has ended."""

    def describe(self, children: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Batch's descriptions of children; an empty one where Batch knows a child no more."""

    def chunk(self, child: int) -> range:
        """The elements of a child."""

    def child_of(self, element: int) -> int:
        """The child of an element."""


class Sink(Protocol):
    """Who is told; `cloudknot.futures.MapFuture` is one."""

    def wanted(self) -> bool:
        """Whether somebody still waits, so that the interpreter may not end."""

    def store(self, first: int, pack: Pack) -> None:
        """Take the outcomes of elements ``first`` onwards."""

    def fail(self, index: int, job: dict[str, Any]) -> None:
        """An element's job ended without a result for it."""

    def give_up(self, error: CloudknotError) -> None:
        """Nothing more can be learned about the elements that are left."""

    def complete(self) -> bool:
        """Whether every element has an outcome; ends the map's future if so."""

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
    count : int
        Number of elements.
    max_threads : int
        Packs fetched at once.
    clock : callable
        Seconds now.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        count: int,
        max_threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._sink, self._count, self._max_threads = source, sink, count, max_threads
        self._clock = clock
        self._known = bytearray(count)
        self._first_missing = 0
        self._failed: set[int] = set()
        self._stop, self._held = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._silent_since: float | None = None

    def start(self) -> None:
        """Begin to look, or go on after the interpreter's end had stopped it."""
        with self._lock:
            if self._thread is None and not self._sink.complete():
                self._thread = threading.Thread(target=self._run, name="cloudknot-collector", daemon=False)
                self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take results meanwhile, but no failures: what ends the job decides what becomes of its elements."""
        self._held.set()
        try:
            yield
        finally:
            self._held.clear()

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch") as pool:
                self._look_until_complete(pool)
        except Exception as error:
            logger.exception("The collector of results failed")
            self._sink.give_up(CloudknotError(f"Results could not be collected: {error!r}"))
        finally:
            self._sink.left()

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
        try:
            self._look(pool)
        except (PermissionDeniedError, ResourceDoesNotExistException) as error:
            self._sink.give_up(error)
        except CloudknotError as error:
            now, first = self._clock(), self._silent_since is None
            since = self._silent_since = now if self._silent_since is None else self._silent_since
            if now - since >= self._source.patience:
                self._sink.give_up(error)
            elif first:
                logger.warning("Cannot look for results at the moment, will go on trying: %s", error)
        else:
            self._silent_since = None

    def _look(self, pool: ThreadPoolExecutor) -> None:
        # Batch is asked first: what a child stored before it ended is then in the listing that follows.
        failed, ended = self._source.poll(self._failed)
        self._fetch_new(pool)
        if self._held.is_set():
            return
        children = {self._source.child_of(index) for index in self._missing()} if ended else failed
        for child, job in self._source.describe(sorted(children)).items():
            for index in self._missing(self._source.chunk(child)):
                self._sink.fail(index, job)
                self._known[index] = 1
        self._failed |= failed

    def _missing(self, elements: range | None = None) -> list[int]:
        return [index for index in elements or range(self._first_missing, self._count) if not self._known[index]]

    def _fetch_new(self, pool: ThreadPoolExecutor) -> None:
        fetches = []
        for key, first, count in self._source.stored(self._first_missing):
            if not all(self._known[first : first + count]):
                fetches.append((first, count, _submit(pool, self._source.fetch, key)))
        for first, count, fetch in fetches:
            self._sink.store(first, Pack(fetch.result()))
            self._known[first : first + count] = b"\1" * count
        missing = self._known.find(0, self._first_missing)
        self._first_missing = self._count if missing < 0 else missing


def _submit(pool: ThreadPoolExecutor, call: Callable[[str], bytes], key: str) -> Future[bytes]:
    """Submit to the pool; call at once when the interpreter is ending and pools take no more work."""
    try:
        return pool.submit(call, key)
    except RuntimeError:
        done: Future[bytes] = Future()
        try:
            done.set_result(call(key))
        except Exception as error:
            done.set_exception(error)
        return done
