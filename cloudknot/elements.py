"""What is known of a map's elements, in 14 bytes each: how each has ended, and which pack has its outcome.

No locks and no I/O here: `cloudknot.futures.MapFuture` guards it, and tells whoever waits.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from cloudknot.worker.protocol import Location

PENDING, VALUE, FAILURE, LOST, GIVEN_UP, CANCELLED = range(6)
"""An element waits; has a value, or a described failure, in a pack; its job ended without either; nothing more can be
learned of it; its map was cancelled."""

_ENDED_BY = bytes([VALUE, *[FAILURE] * 254, PENDING])
"""By the kind of an envelope; 255 stands for one that does not count."""
_IS_PENDING = bytes([1, *[0] * 255])
_HAS_ENDED = bytes([0, *[1] * 255])
_WITHOUT_VALUE = re.compile(rb"[\x02-\x05]")

KIB = 1024
Ended = tuple[int, bytes]
"""Elements that have just ended: a first element, and for each from it on, 1 if it is one of them, else 0."""


class Part(NamedTuple):
    """Neighbouring elements that have one pack: which, its size rounded up to KiB, and their positions in it."""

    location: Location
    size: int
    positions: range


class Elements:
    """The states of ``count`` elements.

    Attributes
    ----------
    left : int
        Elements that wait.
    without_value : int
        Elements that have ended without a value.
    """

    def __init__(self, count: int) -> None:
        self.left, self.without_value = count, 0
        self._states = bytearray(count)
        self._firsts, self._counts, self._sizes = (array("I", bytes(4 * count)) for _ in range(3))
        self._rounds = bytearray(count)

    def __len__(self) -> int:
        return len(self._states)

    def reopened(self) -> Elements:
        """A copy in which those that have ended without a value wait again."""
        copy = Elements(0)
        copy._states = bytearray(self._states.translate(bytes([PENDING, VALUE, *[PENDING] * 254])))
        copy._firsts, copy._counts, copy._sizes = self._firsts[:], self._counts[:], self._sizes[:]
        copy._rounds = self._rounds[:]
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

    def pack(self, index: int) -> tuple[Location, int]:
        """The pack that has an element's outcome, and its size rounded up to KiB; the state is VALUE or FAILURE."""
        location = Location(self._firsts[index], self._counts[index], self._rounds[index])
        return location, self._sizes[index] * KIB

    def part(self, index: int) -> Part:
        """`pack`, with the positions in it of the elements from ``index`` on that have the same."""
        location, size = self.pack(index)
        stop = location.first + location.number
        columns = (self._firsts, location.first), (self._counts, location.number), (self._rounds, location.round)
        if not all(column[index:stop].count(value) == stop - index for column, value in columns):
            stop = next(i for i in range(index, stop) if self.pack(i)[0] != location)
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
        """End those elements of a pack of ``size`` bytes that wait; ``kinds`` are those of its envelopes."""
        first, number, _ = location
        ended, waited = kinds.translate(_ENDED_BY), self._waiting(first, first + number)
        if PENDING in ended:
            waited = bytes(bool(state) and waits for state, waits in zip(ended, waited, strict=True))
        if all(waited):
            self._place(slice(first, first + number), location, size, ended)
        else:
            for position in (position for position in range(number) if waited[position]):
                index = first + position
                self._place(slice(index, index + 1), location, size, ended[position : position + 1])
        return first, waited

    def _place(self, span: slice, location: Location, size: int, ended: bytes) -> None:
        number = len(ended)
        self._states[span] = ended
        self._firsts[span] = array("I", [location.first]) * number
        self._counts[span] = array("I", [location.number]) * number
        self._sizes[span] = array("I", [-(-size // KIB)]) * number
        self._rounds[span] = bytes([location.round]) * number
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

    def _waiting(self, start: int, stop: int) -> bytes:
        return bytes(self._states[start:stop].translate(_IS_PENDING))
