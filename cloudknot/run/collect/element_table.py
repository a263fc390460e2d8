"""The table of a map's elements: the state of each, and the pack with its outcome.

It takes 5 bytes for each element and 14 for each pack. It has no locks and does no I/O: the collector alone writes it,
under the lock of `cloudknot.run.collect.waiters`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cloudknot.aws import batch
from cloudknot.display.progress import Snapshot
from cloudknot.errors import CloudknotError
from cloudknot.run.collect.job_failures import Ending, ending, out_of_memory, process_died
from cloudknot.worker.wire.keys import Location

PENDING, VALUE, FAILURE, LOST, GIVEN_UP, CANCELLED = range(6)
"""The states of an element.

PENDING: it has not ended. VALUE: a pack has its value. FAILURE: a pack has its failure. LOST: its job ended without
either. GIVEN_UP: the cloud did not answer for too long, or denied access. CANCELLED: its map was cancelled.
"""
STATE_WORDS = ("pending", "done", "failed", "failed", "failed", "cancelled")
"""The words for the states of elements."""

_ENDED_BY = bytes([VALUE, *[FAILURE] * 254, PENDING])
"""The new state by the kind of an outcome. Kind 255 (`ABSENT`) is none, so its element stays pending."""
_STORED = (VALUE, FAILURE)
_IS_PENDING = bytes([1, *[0] * 255])
_HAS_ENDED = bytes([0, *[1] * 255])
_IS_FAILURE = bytes(state == FAILURE for state in range(256))
_WITHOUT_VALUE = re.compile(rb"[\x02-\x05]")

KIB = 1024
Ended = tuple[int, bytes]
"""Elements that have just ended: a first index, and a flag for each element from there (1: it has just ended)."""


class Part(NamedTuple):
    """Contiguous elements with outcomes in one pack: the pack, its size rounded up to KiB, and their positions."""

    location: Location
    size: int
    positions: range


class ElementTable:
    """The states of ``count`` elements.

    Attributes
    ----------
    pending : int
        Number of pending elements.
    without_value : int
        Number of elements that have ended without a value.
    endings : dict
        For each child that left elements without an outcome: the ending of its job, and the log stream of its last
        attempt.
    given_up_with : CloudknotError
        The error that made the collector give elements up.
    """

    def __init__(self, count: int) -> None:
        self.pending, self.without_value = count, 0
        # Arrays for all elements together: a `Future` with its lock takes about a kilobyte.
        self._states = bytearray(count)
        self._rows = array("I", bytes(4 * count))
        # One row for each pack, in the order of `store` calls. An element's row is the row of its pack.
        self._firsts, self._counts, self._sizes = (array("I") for _ in range(3))
        self._rounds = array("H")
        self._first_row = 0
        self.endings: dict[int, tuple[Ending, batch.LogStream | None]] = {}
        self.given_up_with = CloudknotError("S3 does not answer.")

    def __len__(self) -> int:
        return len(self._states)

    def reopened(self) -> ElementTable:
        """Return a copy in which elements without a value are pending again."""
        copy = ElementTable(0)
        copy._states = bytearray(self._states.translate(bytes([PENDING, VALUE, *[PENDING] * 254])))
        copy._rows, copy._rounds = self._rows[:], self._rounds[:]
        copy._firsts, copy._counts, copy._sizes = self._firsts[:], self._counts[:], self._sizes[:]
        copy.pending = copy._states.count(PENDING)
        # The packs so far are read again, for the outcomes that are pending again.
        copy._first_row = len(copy._firsts)
        return copy

    def indices_without_value(self) -> array[int]:
        """Return the elements that have ended without a value."""
        return array("Q", self.without_value_from(0))

    def without_value_from(self, index: int) -> Iterator[int]:
        """Yield the elements that have ended without a value, from an index on, in order."""
        return (match.start() for match in _WITHOUT_VALUE.finditer(self._states, index))

    def any_in(self, *states: int) -> bool:
        """Return whether any element is in one of these states."""
        return any(state in self._states for state in states)

    def number_of(self, state: int) -> int:
        """Return the number of elements in a state."""
        return self._states.count(state)

    def state(self, index: int) -> int:
        """Return the state of an element."""
        return self._states[index]

    def state_and_row(self, index: int) -> tuple[int, int]:
        """Return the state and the row of an element. Hold the lock: a store in between would change one of them."""
        return self._states[index], self._rows[index]

    def row(self, index: int) -> int:
        """Return the row of the pack with an element's outcome. The state must be VALUE or FAILURE."""
        return self._rows[index]

    def pack(self, index: int) -> tuple[Location, int]:
        """Return the pack with an element's outcome, and its size rounded up to KiB. See `row`."""
        return self.pack_at(self._rows[index])

    def pack_at(self, row: int) -> tuple[Location, int]:
        """Return the pack in a row, and its size rounded up to KiB."""
        return Location(self._firsts[row], self._counts[row], self._rounds[row]), self._sizes[row] * KIB

    def part(self, index: int) -> Part:
        """Return the pack with an element's outcome, and the positions in it from ``index`` on."""
        location, size = self.pack(index)
        row, stop = self._rows[index], location.first + location.number
        if self._rows[stop - 1] != row or self._rows[index:stop].count(row) < stop - index:
            # Where packs overlap, another pack may have the outcome of a later element.
            stop = next(later for later in range(index, stop) if self._rows[later] != row)
        return Part(location, size, range(index - location.first, stop - location.first))

    def gap(self, start: int = 0) -> int:
        """Return the first pending element from ``start`` on; the number of all elements if there is none."""
        index = self._states.find(PENDING, start)
        return len(self) if index < 0 else index

    def ended(self) -> Ended:
        """Return all elements that have ended so far."""
        return 0, bytes(self._states.translate(_HAS_ENDED))

    def first_without_value(self) -> int | None:
        """Return the first element that has ended without a value; None if there is none."""
        match = _WITHOUT_VALUE.search(self._states)
        return match.start() if match else None

    def new_failures(self, location: Location, kinds: bytes) -> list[int]:
        """Return the elements that outcomes of these ``kinds`` would end as failed."""
        failed, first = kinds.translate(_ENDED_BY).translate(_IS_FAILURE), location.first
        # The usual case, without a look at each of many elements.
        if not any(failed):
            return []
        return [first + n for n, flag in enumerate(failed) if flag and self._states[first + n] == PENDING]

    def store(self, location: Location, size: int, kinds: bytes) -> Ended:
        """End the pending elements of a pack of ``size`` bytes with outcomes of these ``kinds``.

        While the map has not ended, values in the pack also replace failures of earlier rounds.
        """
        first, number = location.first, len(kinds)
        states, pending = kinds.translate(_ENDED_BY), self._pending(first, first + number)
        # Another session may run failed elements again. Once the map has ended, its future may have shown the failure,
        # so it stays.
        if self.pending:
            self._replace_failures(location, size, states)
        if PENDING in states:
            pending = bytes(bool(state) and flag for state, flag in zip(states, pending, strict=True))
        # A pack without entries closes its gap.
        if not any(pending):
            return first, pending
        self._add(location, size)
        # The usual case: one assignment for the whole pack.
        if all(pending):
            self._set(slice(first, first + number), states)
        else:
            for position in (position for position in range(number) if pending[position]):
                index = first + position
                self._set(slice(index, index + 1), states[position : position + 1])
        return first, pending

    def takes(self, pack: Location) -> bool:
        """Return whether an unread pack can change a state: of a pending element, or of one that failed before."""
        if self._was_read(pack):
            return False
        stop = pack.first + pack.number
        if self._states.find(PENDING, pack.first, stop) >= 0:
            return True
        failed = self._states.find(FAILURE, pack.first, stop)
        while failed >= 0 and self.pack(failed)[0] == pack:
            failed = self._states.find(FAILURE, failed + 1, stop)
        return failed >= 0

    def _was_read(self, pack: Location) -> bool:
        """Return whether the first element has its outcome from this pack. The pack may leave others pending."""
        row = self._rows[pack.first]
        return self._states[pack.first] in _STORED and row >= self._first_row and self.pack_at(row)[0] == pack

    def _replace_failures(self, location: Location, size: int, states: bytes) -> None:
        """Replace failures by the values in a pack with these new states."""
        failed = self._states[location.first : location.first + len(states)].translate(_IS_FAILURE)
        if not any(failed):
            return
        positions = [position for position, flag in enumerate(failed) if flag and states[position] == VALUE]
        if positions:
            self._add(location, size)
        for position in positions:
            self._states[location.first + position] = VALUE
            self._rows[location.first + position] = len(self._firsts) - 1
        self.without_value -= len(positions)

    def _add(self, location: Location, size: int) -> None:
        """Add a row for a pack."""
        self._firsts.append(location.first)
        self._counts.append(location.number)
        # In KiB, so that 4 bytes are enough for sizes up to 4 TiB.
        self._sizes.append(-(-size // KIB))
        self._rounds.append(location.round)

    def _set(self, span: slice, states: bytes) -> None:
        """End contiguous elements, with the pack in the last row."""
        number = len(states)
        self._states[span] = states
        self._rows[span] = array("I", [len(self._firsts) - 1]) * number
        self.pending -= number
        self.without_value += number - states.count(VALUE)

    def end(self, elements: range, state: int) -> Ended:
        """End the pending ones of contiguous elements in the state LOST, GIVEN_UP or CANCELLED."""
        span = slice(elements.start, elements.stop)
        pending = self._pending(elements.start, elements.stop)
        self._states[span] = self._states[span].translate(bytes([state, *range(1, 256)]))
        self.pending -= sum(pending)
        self.without_value += sum(pending)
        return elements.start, pending

    def add_ending(self, child: int, job: batch.Job) -> None:
        """Record the ending of a child that left elements without an outcome."""
        streams = batch.log_streams(job)
        self.endings[child] = ending(job), streams[-1] if streams else None

    def short_of_memory(self) -> int:
        """Return the largest memory, in MiB, of a child that ran out of it; 0 if none did, or if it is unknown."""
        endings = (end for end, _ in self.endings.values() if out_of_memory(end))
        return max((end.memory or 0 for end in endings), default=0)

    def any_died(self) -> bool:
        """Return whether the process of any child died, so that one element may have ended its neighbours."""
        return any(process_died(end) for end, _ in self.endings.values())

    def snapshot(self, states: Mapping[str, int]) -> Snapshot:
        """Return the counts for the display. ``states`` has the number of children in each of Batch's states."""
        cancelled = self.number_of(CANCELLED)
        counts = len(self) - self.pending - self.without_value, self.without_value - cancelled, cancelled
        return Snapshot(*counts, states if self.pending else {})

    def _pending(self, start: int, stop: int) -> bytes:
        return bytes(self._states[start:stop].translate(_IS_PENDING))
