"""The outcomes of a map's elements, loaded when somebody asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudknot.aws.batch import DESCRIBE_LIMIT, log_streams
from cloudknot.errors import CloudknotError, DependencyFailedError, ElementError
from cloudknot.run.collect.element_errors import (
    Place,
    as_element_error,
    given_up_error,
    load_exception,
    lost_error,
    unpickling_error,
)
from cloudknot.run.collect.element_table import CANCELLED, FAILURE, GIVEN_UP, LOST, VALUE, ElementTable, Part
from cloudknot.run.collect.job_failures import Growth, out_of_memory, process_died
from cloudknot.run.collect.pack_cache import WHOLE, Loaded, Packs, in_order
from cloudknot.run.collect.waiters import LOCK
from cloudknot.worker.wire.failure import Failure
from cloudknot.worker.wire.keys import Location

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

SHARED = "Another element of its chunk may be the cause. Run each by itself: future.retry_failed(chunksize=1)."
Outcome = tuple[Any, BaseException | None]
"""A value and None, or None and the error that stands in its place."""


class Loader:
    """Reads the outcomes of the elements of one map.

    Parameters
    ----------
    view : RunView
    table : ElementTable
        How each element has ended, so far.
    packs : Packs
    growth : Growth
        For the errors of jobs that ran out of memory.
    max_threads : int
        Packs that are read at the same time for the list of all values.
    """

    def __init__(
        self, view: RunView, table: ElementTable, packs: Packs, growth: Growth, max_threads: int = 64
    ) -> None:
        self._view, self._table, self._packs = view, table, packs
        self._growth, self._max_threads = growth, max_threads
        self._last: tuple[int, int, Loaded | None] = -1, 0, None
        self._failed_before: dict[int, str] = {}
        self._log_urls: dict[int, str] = {}
        self._making_list = threading.RLock()
        self._list: list[Any] | None = None

    def outcome(self, index: int) -> tuple[Outcome, bool]:
        """Return the outcome of an element that has ended, and whether it would be the same the next time.

        Raises
        ------
        CancelledError
            The map was cancelled.
        """
        if self._list is not None:
            return (self._list[index], None), True
        try:
            with LOCK:
                state, row = self._table.known(index)
            outcome = self._outcome(index, state, row)
            return outcome, state != VALUE or outcome[1] is None  # What cannot be unpickled now may be later.
        except CloudknotError as error:
            return (None, as_element_error(error, self._view.place(index))), False

    def list_of_all(self, held: Callable[[], Iterable[tuple[int, Any]]]) -> Outcome:
        """Return the list of all values, which is made once, or why it cannot be read. Every element has a value.

        ``held`` gives the values that futures of elements have read: the same objects go into the list.
        """
        with self._making_list:
            if self._list is None:
                try:
                    values = self._values()
                except CloudknotError as error:
                    return None, as_element_error(error, self._view.place(0))
                for index, value in held():
                    values[index] = value
                self._list = values
            return self._list, None

    def _outcome(self, index: int, state: int, row: int) -> Outcome:
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
            return None, given_up_error(self._view.place(index), self._table.given_up_with)
        assert state == LOST
        return None, self._error_of_lost(index)

    def _error_of_lost(self, index: int) -> BaseException:
        # The job may have been submitted again since; what is told is how it ended then.
        child = next(child for child in reversed(self._view.children_of(index)) if child in self._table.endings)
        end, stream = self._table.endings[child]
        log_url = self._view.log_url(stream) if stream else ""
        if end.kind is DependencyFailedError:
            end = replace(end, problem=f"{end.problem}{self._failed_dependencies(child)}")
        if out_of_memory(end):
            end = replace(end, fix=self._growth.growth_fix(end) or end.fix)
        if process_died(end) and self._is_shared(child):
            end = replace(end, fix=f"{end.fix} {SHARED}")
        return lost_error(replace(self._view.place(index, child), log_url=log_url), end)

    def _is_shared(self, child: int) -> bool:
        return sum(len(span) for span in islice(self._view.spans(child), 2)) > 1

    def _failed_dependencies(self, child: int) -> str:
        """Return a sentence that names the failed jobs that a child waited for; empty when Batch knows none."""
        if child not in self._failed_before:
            with suppress(CloudknotError):
                self._failed_before[child] = self._view.waited_for(child)
        names = self._failed_before.get(child)
        return f" Failed: {names}." if names else ""

    def _read(self, index: int, state: int, row: int) -> Outcome:
        # Whoever goes through all elements comes back to one pack many times.
        last, first, loaded = self._last
        if row == last and state == VALUE and loaded is not None:
            return self._value_in(loaded, index, first)
        location, size = self._table.pack_at(row)
        if state == VALUE and size <= WHOLE:
            return self._value_of(index, location)
        payload = self._packs.payload(location, size, index - location.first)
        child = self._view.child_of(index, location.round)
        place = self._view.place(index, child)
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
            others = map(self._view.child_of, self._table.without_value_from(index))
            children = dict.fromkeys([child, *islice(others, DESCRIBE_LIMIT - 1)])
            with suppress(CloudknotError):
                for each, job in self._view.describe(children).items():
                    streams = log_streams(job)
                    self._log_urls[each] = self._view.log_url(streams[-1]) if streams else ""
        return self._log_urls.get(child, "")

    def _value_of(self, index: int, location: Location) -> Outcome:
        """A value of a pack that is read whole: the common case, of which there may be millions."""
        loaded = self._packs.loaded(location)
        self._last = self._table.row(index), location.first, loaded
        return self._value_in(loaded, index, location.first)

    def _value_in(self, loaded: Loaded, index: int, first: int) -> Outcome:
        try:
            return loaded.value(index - first), None
        except Exception as error:
            location, _ = self._table.pack(index)
            place = self._view.place(index, self._view.child_of(index, location.round))
            failed = unpickling_error(place, error)
            failed.__cause__ = error
            return None, failed

    def _values(self) -> list[Any]:
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
                values += load_values(read, part, self._view.place) if isinstance(read, Loaded) else read
        return values

    def _parts(self) -> Iterator[Part]:
        """The packs in which all elements are, in order."""
        index = 0
        while index < len(self._table):
            part = self._table.part(index)
            yield part
            index += len(part.positions)

    def _fetch(self, part: Part) -> tuple[Part, Loaded | list[Any]]:
        """A pack, or, of a large one, the values in it."""
        if part.size <= WHOLE:
            return part, self._packs.loaded(part.location)
        return part, [self._value(part.location.first + position) for position in part.positions]

    def _value(self, index: int) -> Any:
        value, error = self._read(index, VALUE, self._table.row(index))
        if error is not None:
            raise error
        return value


def load_value(payload: bytes | memoryview | BinaryIO, place: Place) -> Any:
    """The value that a payload holds. Raises `ElementError` when it cannot be unpickled here."""
    from cloudknot.program import pickling

    try:
        if isinstance(payload, bytes | memoryview):
            return pickling.loads(payload)
        return pickling.load(payload)
    except CloudknotError:
        raise
    except Exception as error:
        raise unpickling_error(place, error) from error


def load_values(loaded: Loaded, part: Part, place: Callable[[int], Place]) -> list[Any]:
    """The values of a part of a pack. Raises `ElementError` as `load_value` does."""
    data, loads = memoryview(loaded.data), loaded.loads
    values: list[Any] = []
    try:
        for start, end in pairwise(loaded.ends[part.positions.start : part.positions.stop + 1]):
            values.append(loads(data[start:end]))
    except Exception as error:
        index = part.location.first + part.positions.start + len(values)
        raise unpickling_error(place(index), error) from error
    return values
