"""The outcomes of a map's elements, loaded when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from cloudknot.aws import batch
from cloudknot.aws.batch import DESCRIBE_LIMIT, LogStream, log_streams
from cloudknot.errors import CloudknotError, DependencyFailedError, ElementError
from cloudknot.run.collect.collector import Source
from cloudknot.run.collect.element_errors import (
    Place,
    given_up,
    load_exception,
    load_value,
    load_values,
    lost,
    unreadable,
)
from cloudknot.run.collect.element_table import CANCELLED, FAILURE, GIVEN_UP, LOST, VALUE, Elements, Part
from cloudknot.run.collect.job_failures import Ending, ending, out_of_memory, took_neighbours
from cloudknot.run.collect.pack_cache import WHOLE, Loaded, Packs, Store, in_order
from cloudknot.worker.wire.envelope import Failure
from cloudknot.worker.wire.keys import Location

SHARED = " (the cause may be another element of its chunk: retry_failed(chunksize=1) runs each by itself)"
Outcome = tuple[Any, BaseException | None]
"""A value and None, or None and the error that stands in its place."""


class Job(Source, Store, Protocol):
    """What a map's future must know of its job; `cloudknot.run.jobs.job.BatchJob` is one."""

    def place(self, index: int, child: int | None = None) -> Place:
        """Where an element runs, for an error's text; by default in its last round."""

    @property
    def states(self) -> Mapping[str, int]:
        """How many children were in which state when Batch was asked last."""

    @property
    def name(self) -> str:
        """What Batch calls the job."""

    def reason_of_waiting(self) -> str:
        """Batch's reason why a job stays in RUNNABLE; empty when it gives none."""

    def child_of(self, element: int, round: int | None = None) -> int:
        """The child that has an element, in its last round, or in the last one up to one."""

    def children_of(self, element: int) -> list[int]:
        """The children that have an element, in all its rounds."""

    def log_url(self, stream: LogStream) -> str:
        """Where a person can read a log stream."""

    def waited_for(self, child: int) -> str:
        """The jobs that a child's job waited for and that failed, in words."""

    def growth(self, end: Ending) -> str:
        """What ``memory_growth`` does about a job that ran out of memory, in words; empty without it."""

    def terminate(self, reason: str) -> None:
        """End the job."""


class Results:
    """The outcomes of the elements of one job.

    Parameters
    ----------
    job : Job
    elements : Elements
        How each has ended, so far.
    max_threads : int
        Packs that are read at the same time for `values`.
    packs : Packs, optional
        Those of an earlier future of the same run, with what they keep.
    """

    def __init__(self, job: Job, elements: Elements, max_threads: int, packs: Packs | None = None) -> None:
        self._job, self._elements, self._max_threads = job, elements, max_threads
        self.packs = packs or Packs(job)
        self._last: tuple[int, int, Loaded | None] = -1, 0, None
        self._endings: dict[int, tuple[Ending, LogStream | None]] = {}
        self.given_up_with = CloudknotError("The cloud does not tell")
        self._failed_before: dict[int, str] = {}
        self._log_urls: dict[int, str] = {}

    def lost(self, child: int, job: batch.Job) -> None:
        """Remember how the job of a child ended that left elements without a result."""
        streams = log_streams(job)
        self._endings[child] = ending(job), streams[-1] if streams else None

    def short_of_memory(self) -> int:
        """The most MiB that a child had which ran out of memory; 0 if none did, or nobody knows."""
        endings = (end for end, _ in self._endings.values() if out_of_memory(end))
        return max((end.memory or 0 for end in endings), default=0)

    def any_died(self) -> bool:
        """Whether a child's process was ended, perhaps by one of its elements."""
        return any(took_neighbours(end) for end, _ in self._endings.values())

    def give_up(self, error: CloudknotError) -> None:
        """Remember why nothing more can be learned of the elements that are left."""
        self.given_up_with = error

    def outcome(self, index: int, state: int, row: int) -> Outcome:
        """The outcome of an element that has ended, of which this is known.

        Raises
        ------
        CancelledError
            The map was cancelled.
        CloudknotError
            It cannot be read at the moment.
        """
        if state in (VALUE, FAILURE):
            return self._read(index, state, row)
        if state == CANCELLED:
            raise CancelledError
        if state == GIVEN_UP:
            return None, given_up(self._job.place(index), self.given_up_with)
        assert state == LOST
        return None, self._error_of_lost(index)

    def _error_of_lost(self, index: int) -> BaseException:
        # The job may have been submitted again since; what is told is how it ended then.
        child = next(child for child in reversed(self._job.children_of(index)) if child in self._endings)
        end, stream = self._endings[child]
        log_url = self._job.log_url(stream) if stream else ""
        if end.kind is DependencyFailedError:
            end = replace(end, what=f"{end.what}{self._waited_for(child)}")
        if took_neighbours(end) and self._is_shared(child):
            end = replace(end, what=f"{end.what}{SHARED}")
        if out_of_memory(end):
            end = replace(end, what=f"{end.what}{self._job.growth(end)}")
        return lost(replace(self._job.place(index, child), log_url=log_url), end)

    def _is_shared(self, child: int) -> bool:
        return sum(len(span) for span in islice(self._job.spans(child), 2)) > 1

    def _waited_for(self, child: int) -> str:
        if child not in self._failed_before:
            with suppress(CloudknotError):
                self._failed_before[child] = self._job.waited_for(child)
        names = self._failed_before.get(child)
        return f" ({names})" if names else ""

    def _read(self, index: int, state: int, row: int) -> Outcome:
        # Whoever goes through all elements comes back to one pack many times.
        last, first, loaded = self._last
        if row == last and state == VALUE and loaded is not None:
            return self._value_in(loaded, index, first)
        location, size = self._elements.pack_at(row)
        if state == VALUE and size <= WHOLE:
            return self._value_of(index, location)
        payload = self.packs.payload(location, size, index - location.first)
        child = self._job.child_of(index, location.round)
        place = self._job.place(index, child)
        if state == FAILURE:
            place = replace(place, log_url=self._log_url(index, child))
            data = bytes(payload) if isinstance(payload, memoryview) else payload.read()
            return None, load_exception(Failure.from_bytes(data), place)
        try:
            return load_value(payload, place), None
        except ElementError as error:
            return None, error

    def _log_url(self, index: int, child: int) -> str:
        """Where the output of the child is that stored an element's failure; empty when Batch does not know it."""
        if child not in self._log_urls:
            # The failures that follow are asked for next, and Batch is asked about a hundred jobs at a time.
            others = map(self._job.child_of, self._elements.without_value_from(index))
            children = dict.fromkeys([child, *islice(others, DESCRIBE_LIMIT - 1)])
            with suppress(CloudknotError):
                for each, job in self._job.describe(children).items():
                    streams = log_streams(job)
                    self._log_urls[each] = self._job.log_url(streams[-1]) if streams else ""
        return self._log_urls.get(child, "")

    def _value_of(self, index: int, location: Location) -> Outcome:
        """A value of a pack that is read whole: the common case, of which there may be millions."""
        loaded = self.packs.loaded(location)
        self._last = self._elements.row(index), location.first, loaded
        return self._value_in(loaded, index, location.first)

    def _value_in(self, loaded: Loaded, index: int, first: int) -> Outcome:
        try:
            return loaded.value(index - first), None
        except Exception as error:
            location, _ = self._elements.pack(index)
            place = self._job.place(index, self._job.child_of(index, location.round))
            failed = unreadable(place, error)
            failed.__cause__ = error
            return None, failed

    def values(self) -> list[Any]:
        """The list of all values; every element has one.

        Raises
        ------
        ElementError
            One of them cannot be unpickled here.
        CloudknotError
            One of them cannot be read at the moment.
        """
        values: list[Any] = []
        with ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch") as pool:
            for part, read in in_order(pool, self._fetch, self._parts()):
                values += load_values(read, part, self._job.place) if isinstance(read, Loaded) else read
        return values

    def _parts(self) -> Iterator[Part]:
        """The packs in which all elements are, in order."""
        index = 0
        while index < len(self._elements):
            part = self._elements.part(index)
            yield part
            index += len(part.positions)

    def _fetch(self, part: Part) -> tuple[Part, Loaded | list[Any]]:
        """A pack, or, of a large one, the values in it."""
        if part.size <= WHOLE:
            return part, self.packs.loaded(part.location)
        return part, [self._value(part.location.first + position) for position in part.positions]

    def _value(self, index: int) -> Any:
        value, error = self._read(index, VALUE, self._elements.row(index))
        if error is not None:
            raise error
        return value
