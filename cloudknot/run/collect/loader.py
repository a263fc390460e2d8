"""Loader: reads outcomes when a caller asks for them, of one element or of all. It changes no state of elements."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudknot.aws.batch import DESCRIBE_LIMIT, log_streams
from cloudknot.aws.sdk import forks
from cloudknot.errors import CloudknotError, DependencyFailedError, ElementError
from cloudknot.run.collect.element_errors import (
    Place,
    as_element_error,
    given_up_error,
    load_error,
    load_exception,
    lost_error,
    unpickling_error,
    unusable_error,
)
from cloudknot.run.collect.element_table import CANCELLED, FAILURE, GIVEN_UP, LOST, VALUE, ElementTable, Part
from cloudknot.run.collect.job_failures import Growth, out_of_memory, process_died
from cloudknot.run.collect.pack_cache import Loaded, Packs, in_order, is_whole
from cloudknot.run.collect.waiters import LOCK
from cloudknot.worker.wire import by_value
from cloudknot.worker.wire.buffers import ReceivedPickle
from cloudknot.worker.wire.failure import DAMAGED
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.seal import WRONG_CHECKSUM, DamagedError, UnusableError

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

SHARED = "Another element of its chunk may be the cause. Run each by itself: future.retry_failed(chunksize=1)."
Outcome = tuple[Any, BaseException | None]
"""A value and None, or None and the error in place of a value."""


class Loader:
    """The reader of outcomes for the elements of one map.

    Parameters
    ----------
    view : RunView
    table : ElementTable
        The states of the elements.
    packs : Packs
    growth : Growth
        Supplies the fix for jobs that ran out of memory.
    max_threads : int
        Number of packs that are read at the same time for the list of all values.
    """

    def __init__(
        self, view: RunView, table: ElementTable, packs: Packs, growth: Growth, max_threads: int = 64
    ) -> None:
        self._view, self._table, self.packs = view, table, packs
        self._growth, self._max_threads = growth, max_threads
        # The row and the first element of the pack that was read last, and the pack itself. One tuple, so that
        # other threads never see a row with the pack of another one.
        self._last: tuple[int, int, Loaded | None] = -1, 0, None
        self._dependencies: dict[int, str] = {}
        self._log_urls: dict[int, str] = {}
        self._making_list = forks.renewed(threading.RLock())
        self._list: list[Any] | None = None

    def outcome(self, index: int) -> tuple[Outcome, bool]:
        """Return the outcome of an ended element, and whether a later call would return the same.

        Raises
        ------
        CancelledError
            The map was cancelled.
        """
        if self._list is not None:
            return (self._list[index], None), True
        try:
            with LOCK:
                state, row = self._table.state_and_row(index)
            outcome = self._outcome(index, state, row)
            # A failed unpickling is not final: it succeeds once the user has installed or imported the module.
            return outcome, state != VALUE or outcome[1] is None
        except CloudknotError as error:
            return (None, as_element_error(error, self._view.place(index))), False

    def list_of_all(self, held: Callable[[], Iterable[tuple[int, Any]]]) -> Outcome:
        """Return the list of all values, or the error that prevents it. Every element must have a value.

        The list is made once. ``held`` returns the values that futures of elements hold, by index. The list contains
        these same objects.
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
        """Return the outcome of an ended element with this state and row of the table.

        Raises
        ------
        CancelledError
            The map was cancelled.
        CloudknotError
            The outcome cannot be read at the moment.
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
        """Return the error for an element that its job left without an outcome."""
        # A later round may run the element again. This future reports the ending that its collector saw.
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
        """Return whether a child had several elements."""
        return sum(len(span) for span in islice(self._view.spans(child), 2)) > 1

    def _failed_dependencies(self, child: int) -> str:
        """Return a sentence with the failed jobs that a child waited for; empty if Batch knows none."""
        if child not in self._dependencies:
            # An error without these names is better than no error while Batch does not answer.
            with suppress(CloudknotError):
                self._dependencies[child] = self._view.failed_dependencies(child)
        names = self._dependencies.get(child)
        return f" Failed: {names}." if names else ""

    def _read(self, index: int, state: int, row: int) -> Outcome:
        """Return the outcome of an element whose state is VALUE or FAILURE."""
        # A loop over all elements reads from one pack many times.
        last, first, loaded = self._last
        if row == last and state == VALUE and loaded is not None:
            return self._value_in(loaded, index, first)
        location, size = self._table.pack_at(row)
        if state == VALUE and is_whole(location, size):
            try:
                return self._value_of(index, location)
            except UnusableError as error:
                child = self._view.child_of(index, location.round)
                return None, unusable_error(self._view.place(index, child), error)
        child = self._view.child_of(index, location.round)
        place = self._view.place(index, child)
        try:
            if state == VALUE:
                payload, python = self.packs.payload(location, size, index - location.first)
                return load_value(payload, python, place), None
            failure = self.packs.failure(location, size, index - location.first)
            return None, load_exception(failure, replace(place, log_url=self._log_url(index, child)))
        except UnusableError as error:
            return None, unusable_error(place, error)
        except ElementError as error:
            return None, error

    def _log_url(self, index: int, child: int) -> str:
        """Return the address of a child's output; empty if Batch does not know it. ``index`` is a failed element."""
        if child not in self._log_urls:
            # The caller usually reads the next failures next, and one call to Batch describes up to a hundred jobs.
            next_children = map(self._view.child_of, self._table.without_value_from(index))
            children = dict.fromkeys([child, *islice(next_children, DESCRIBE_LIMIT - 1)])
            with suppress(CloudknotError):
                for described, job in self._view.describe(children).items():
                    streams = log_streams(job)
                    self._log_urls[described] = self._view.log_url(streams[-1]) if streams else ""
        return self._log_urls.get(child, "")

    def _value_of(self, index: int, location: Location) -> Outcome:
        """Return a value from a pack that is read whole: the common case, and fast for millions of values."""
        loaded = self.packs.loaded(location)
        self._last = self._table.row(index), location.first, loaded
        return self._value_in(loaded, index, location.first)

    def _value_in(self, loaded: Loaded, index: int, first: int) -> Outcome:
        """Return a value from a pack in memory, of which ``first`` is the first element."""
        try:
            return loaded.value(index - first), None
        except Exception as error:
            location, _ = self._table.pack(index)
            place = self._view.place(index, self._view.child_of(index, location.round))
            failure = load_error(place, error)
            failure.__cause__ = error
            return None, failure

    def _values(self) -> list[Any]:
        """Read all values. Every element must have one.

        Raises
        ------
        ElementError
            A value cannot be unpickled in this session.
        CloudknotError
            A value cannot be read at the moment.
        """
        values: list[Any] = []
        with ThreadPoolExecutor(self._max_threads, thread_name_prefix="cloudknot-fetch") as pool:
            # Packs arrive in input order, and later ones download while this thread unpickles.
            for part, fetched in in_order(pool, self._fetch, self._parts()):
                values += load_values(fetched, part, self._view.place) if isinstance(fetched, Loaded) else fetched
        return values

    def _parts(self) -> Iterator[Part]:
        """Yield the parts of packs that cover all elements, in order."""
        index = 0
        while index < len(self._table):
            part = self._table.part(index)
            yield part
            index += len(part.positions)

    def _fetch(self, part: Part) -> tuple[Part, Loaded | list[Any]]:
        """Return a part with its pack, or for a large pack, with its values."""
        if is_whole(part.location, part.size):
            try:
                return part, self.packs.loaded(part.location)
            except UnusableError as error:
                raise unusable_error(self._view.place(part.location.first + part.positions.start), error) from error
        return part, [self._value(part.location.first + position) for position in part.positions]

    def _value(self, index: int) -> Any:
        """Return one value; raise its error."""
        value, error = self._read(index, VALUE, self._table.row(index))
        if error is not None:
            raise error
        return value


def load_value(payload: bytes | memoryview | ReceivedPickle | BinaryIO, python: str, place: Place) -> Any:
    """Return the value in a payload that ``python`` pickled. Raises `ElementError` if this session cannot unpickle it.

    Raises `UnusableError` if the payload is damaged.
    """
    from cloudknot.program import pickling

    try:
        if isinstance(payload, bytes | memoryview | ReceivedPickle):
            return by_value.loads(payload, python) if by_value.is_other(python) else pickling.loads(payload)
        return by_value.load(payload, python) if by_value.is_other(python) else pickling.load(payload)
    except (CloudknotError, UnusableError):
        # The payload is read from S3 while it is unpickled, so this is an error of the cloud or a damaged block.
        raise
    except Exception as error:
        raise unpickling_error(place, error) from error


def load_values(loaded: Loaded, part: Part, place: Callable[[int], Place]) -> list[Any]:
    """Return the values in a part of a pack. Raises `ElementError` if this session cannot unpickle one."""
    data, loads = memoryview(loaded.data), loaded.loads
    values: list[Any] = []
    try:
        if (damaged := loaded.kinds.find(DAMAGED, part.positions.start, part.positions.stop)) >= 0:
            raise unusable_error(place(part.location.first + damaged), DamagedError(WRONG_CHECKSUM))
        for start, end in pairwise(loaded.ends[part.positions.start : part.positions.stop + 1]):
            values.append(loads(data[start:end]))
    except ElementError:
        raise
    except Exception as error:
        index = part.location.first + part.positions.start + len(values)
        raise load_error(place(index), error) from error
    return values
