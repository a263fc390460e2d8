"""The table of a map's elements, in 5 bytes each, and 14 for each pack: how each has ended, and which pack has its
outcome.

No locks and no I/O here: the collector writes it under the lock of `cloudknot.run.collect.waiters`.
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
"""An element waits; has a value, or a described failure, in a pack; its job ended without either; nothing more can be
learned of it; its map was cancelled."""

_ENDED_BY = bytes([VALUE, *[FAILURE] * 254, PENDING])
"""By the kind of an envelope; 255 stands for one that does not count."""
_IS_PENDING = bytes([1, *[0] * 255])
_HAS_ENDED = bytes([0, *[1] * 255])
_IS_FAILURE = bytes(state == FAILURE for state in range(256))
_WITHOUT_VALUE = re.compile(rb"[\x02-\x05]")

KIB = 1024
Ended = tuple[int, bytes]
"""Elements that have just ended: a first element, and for each from it on, 1 if it is one of them, else 0."""


class Part(NamedTuple):
    """Neighbouring elements that have one pack: which, its size rounded up to KiB, and their positions in it."""

    location: Location
    size: int
    positions: range


class ElementTable:
    """The states of ``count`` elements.

    Attributes
    ----------
    left : int
        Elements that wait.
    without_value : int
        Elements that have ended without a value.
    endings : dict
        By child: how its job ended, where it left elements without a result, and the log stream of its last attempt.
    given_up_with : CloudknotError
        The reason of elements that were given up.
    """

    def __init__(self, count: int) -> None:
        self.left, self.without_value = count, 0
        self._states = bytearray(count)
        self._rows = array("I", bytes(4 * count))
        # Of each pack, in the order in which they were stored; an element's row is the one of its pack.
        self._firsts, self._counts, self._sizes = (array("I") for _ in range(3))
        self._rounds = array("H")
        self.endings: dict[int, tuple[Ending, batch.LogStream | None]] = {}
        self.given_up_with = CloudknotError("The cloud does not answer.")

    def __len__(self) -> int:
        return len(self._states)

    def reopened(self) -> ElementTable:
        """A copy in which those that have ended without a value wait again."""
        copy = ElementTable(0)
        copy._states = bytearray(self._states.translate(bytes([PENDING, VALUE, *[PENDING] * 254])))
        copy._rows, copy._rounds = self._rows[:], self._rounds[:]
        copy._firsts, copy._counts, copy._sizes = self._firsts[:], self._counts[:], self._sizes[:]
        copy.left = copy._states.count(PENDING)
        return copy

    def indices_without_value(self) -> array[int]:
        """The elements that have ended without a value."""
        return array("Q", self.without_value_from(0))

    def without_value_from(self, index: int) -> Iterator[int]:
        """Those from an index on, in order."""
        return (found.start() for found in _WITHOUT_VALUE.finditer(self._states, index))

    def any_in(self, *states: int) -> bool:
        """Whether any element is in one of these states."""
        return any(state in self._states for state in states)

    def number_of(self, state: int) -> int:
        """How many elements are in a state."""
        return self._states.count(state)

    def state(self, index: int) -> int:
        return self._states[index]

    def known(self, index: int) -> tuple[int, int]:
        """State and row, which belong together only while nothing is stored."""
        return self._states[index], self._rows[index]

    def row(self, index: int) -> int:
        """Which pack has an element's outcome, as a number of this object; the state is VALUE or FAILURE."""
        return self._rows[index]

    def pack(self, index: int) -> tuple[Location, int]:
        """The pack that has an element's outcome, and its size rounded up to KiB; the state is VALUE or FAILURE."""
        return self.pack_at(self._rows[index])

    def pack_at(self, row: int) -> tuple[Location, int]:
        """The pack of a row, and its size rounded up to KiB."""
        return Location(self._firsts[row], self._counts[row], self._rounds[row]), self._sizes[row] * KIB

    def part(self, index: int) -> Part:
        """`pack`, with the positions in it of the elements from ``index`` on that have the same."""
        location, size = self.pack(index)
        row, stop = self._rows[index], location.first + location.number
        if self._rows[index:stop].count(row) < stop - index:
            stop = next(other for other in range(index, stop) if self._rows[other] != row)
        return Part(location, size, range(index - location.first, stop - location.first))

    def gap(self, start: int = 0) -> int:
        """The first element from ``start`` on that waits; the number of all when there is none."""
        found = self._states.find(PENDING, start)
        return len(self) if found < 0 else found

    def ended(self) -> Ended:
        """All that have ended so far."""
        return 0, bytes(self._states.translate(_HAS_ENDED))

    def first_without_value(self) -> int | None:
        """The first element that has ended without a value."""
        found = _WITHOUT_VALUE.search(self._states)
        return found.start() if found else None

    def store(self, location: Location, size: int, kinds: bytes) -> Ended:
        """End those elements of a pack of ``size`` bytes that wait; ``kinds`` are those of its envelopes.

        Of two attempts that ran at once one may have failed where the other did not: as long as the map has not ended,
        a value takes the place of a failure.
        """
        first, number, _ = location
        ended, waited = kinds.translate(_ENDED_BY), self._waiting(first, first + number)
        if self.left:
            self._mend(location, size, ended)
        if PENDING in ended:
            waited = bytes(bool(state) and waits for state, waits in zip(ended, waited, strict=True))
        if any(waited):
            self._add(location, size)
        if all(waited):
            self._place(slice(first, first + number), ended)
        else:
            for position in (position for position in range(number) if waited[position]):
                index = first + position
                self._place(slice(index, index + 1), ended[position : position + 1])
        return first, waited

    def takes(self, pack: Location) -> bool:
        """Whether a pack may say something new: of an element that waits, or that failed by another pack."""
        stop = pack.first + pack.number
        if self._states.find(PENDING, pack.first, stop) >= 0:
            return True
        failed = self._states.find(FAILURE, pack.first, stop)
        while failed >= 0 and self.pack(failed)[0] == pack:
            failed = self._states.find(FAILURE, failed + 1, stop)
        return failed >= 0

    def _mend(self, location: Location, size: int, ended: bytes) -> None:
        """Put values of a pack in the place of failures."""
        states = self._states[location.first : location.first + location.number].translate(_IS_FAILURE)
        if not any(states):
            return
        mended = [position for position, state in enumerate(states) if state and ended[position] == VALUE]
        if mended:
            self._add(location, size)
        for position in mended:
            self._states[location.first + position] = VALUE
            self._rows[location.first + position] = len(self._firsts) - 1
        self.without_value -= len(mended)

    def _add(self, location: Location, size: int) -> None:
        self._firsts.append(location.first)
        self._counts.append(location.number)
        self._sizes.append(-(-size // KIB))
        self._rounds.append(location.round)

    def _place(self, span: slice, ended: bytes) -> None:
        """End some elements, whose pack was added last."""
        number = len(ended)
        self._states[span] = ended
        self._rows[span] = array("I", [len(self._firsts) - 1]) * number
        self.left -= number
        self.without_value += number - ended.count(VALUE)

    def end(self, elements: range, state: int) -> Ended:
        """End those of consecutive elements that wait, all in one state that is not a pack's."""
        span = slice(elements.start, elements.stop)
        waited = self._waiting(elements.start, elements.stop)
        self._states[span] = self._states[span].translate(bytes([state, *range(1, 256)]))
        self.left -= sum(waited)
        self.without_value += sum(waited)
        return elements.start, waited

    def add_ending(self, child: int, job: batch.Job) -> None:
        """Note how the job of a child ended that left elements without a result."""
        streams = batch.log_streams(job)
        self.endings[child] = ending(job), streams[-1] if streams else None

    def short_of_memory(self) -> int:
        """Return the most MiB that a child had which ran out of memory; 0 if none did, or nobody knows."""
        endings = (end for end, _ in self.endings.values() if out_of_memory(end))
        return max((end.memory or 0 for end in endings), default=0)

    def any_died(self) -> bool:
        """Return whether the process of a child was ended, perhaps by one of its elements."""
        return any(process_died(end) for end, _ in self.endings.values())

    def snapshot(self, states: Mapping[str, int], why: str) -> Snapshot:
        """Return the progress for the display, with the number of children in each of Batch's states."""
        cancelled = self.number_of(CANCELLED)
        counts = len(self) - self.left - self.without_value, self.without_value - cancelled, cancelled
        return Snapshot(*counts, states, why) if self.left else Snapshot(*counts)

    def _waiting(self, start: int, stop: int) -> bytes:
        return bytes(self._states[start:stop].translate(_IS_PENDING))
