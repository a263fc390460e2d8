"""The rule that gives each element of a round one outcome, whatever attempts run at the same time.

Two attempts of one child may run side by side, if Batch wrongly believes that a host is lost. So a pack is not stored
under a key of its attempt, but under the key of the *gap* that it begins to fill: a maximal range of elements of the
child without an outcome. A pack begins with the first element of its gap. S3 stores only the first object of a key
(``If-None-Match``), so one pack fills a gap. The other writer reads that pack, and drops its own outcomes for the same
elements. What the pack leaves open are smaller gaps, the same ones for everybody.

An element lies in a gap G0, then in a gap G1 that the pack of G0 has left, and so on. Each of these keys has one pack,
and the first pack with an outcome for the element ends the sequence. So there is never a second outcome, and readers
need no order, no clock and no lock. `docs/design.md` has the proof, also for retries.

Before a retry runs elements again, it stores an empty pack in each of their gaps. An empty pack closes its gap: an
attempt that still runs cannot store anything there. This module does no I/O.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from .failure import ABSENT
from .keys import Location
from .pack import head_size, needed_for_head

_OUTCOMES = re.compile(rb"[^%c]+" % ABSENT, re.DOTALL)
HEAD = 1000
"""Entries of a pack's head that are read with one request."""


class Listed(NamedTuple):
    """A pack in a listing: its location and its size in bytes."""

    location: Location
    size: int


class Gaps:
    """The gaps of one child in one round, or of several children.

    Parameters
    ----------
    elements : iterable of int
        The sorted elements of the child. Each contiguous range is a gap at first.
    """

    def __init__(self, elements: Iterable[int]) -> None:
        self._gaps: list[range] = list(_ranges(elements))

    def __iter__(self) -> Iterator[range]:
        """Yield the gaps in order."""
        return iter(self._gaps)

    def __contains__(self, element: int) -> bool:
        """Return whether an element has no outcome."""
        return self.around(element) is not None

    def around(self, element: int) -> range | None:
        """Return the gap with an element; None if the element has an outcome or lies in a closed gap."""
        position = bisect_right(self._gaps, element, key=_start) - 1
        return self._gaps[position] if position >= 0 and element in self._gaps[position] else None

    def elements(self) -> list[int]:
        """Return all elements without an outcome."""
        return [element for gap in self._gaps for element in gap]

    def fill(self, location: Location, kinds: bytes) -> None:
        """Take note of a stored pack with outcomes of these ``kinds``. The order of calls does not matter."""
        first = location.first
        # Also a pack with entries but no outcome, which no worker stores: otherwise a writer would find the same gap
        # again and again.
        if not kinds.strip(bytes([ABSENT])):
            self._remove(range(first, first + location.number))
        for run in _OUTCOMES.finditer(kinds):
            self._remove(range(first + run.start(), first + run.end()))

    def _remove(self, filled: range) -> None:
        begin = max(0, bisect_right(self._gaps, filled.start, key=_start) - 1)
        end = begin
        rest: list[range] = []
        while end < len(self._gaps) and self._gaps[end].start < filled.stop:
            gap = self._gaps[end]
            rest += [range(gap.start, min(gap.stop, filled.start)), range(max(gap.start, filled.stop), gap.stop)]
            end += 1
        self._gaps[begin:end] = [gap for gap in rest if gap]


def _start(gap: range) -> int:
    return gap.start


def _ranges(elements: Iterable[int]) -> Iterator[range]:
    """Yield the contiguous ranges of sorted elements."""
    start = stop = -1
    for element in elements:
        if element != stop:
            if start != stop:
                yield range(start, stop)
            start = element
        stop = element + 1
    if start != stop:
        yield range(start, stop)


def location_in(gap: range, round: int) -> Location:
    """Return the location of the pack that fills a gap, or a part of it from its start on."""
    return Location(gap.start, len(gap), round)


def read_head(read: Callable[[int, int], bytes], location: Location) -> bytes:
    """Return the head of a pack, and perhaps some payloads. One request is enough for `HEAD` elements.

    ``read`` returns the bytes of the pack from a start up to, but without, an end.
    """
    # The key shows the most entries that the pack can have, and its own first bytes the true number.
    size = head_size(min(location.number, HEAD))
    head = read(0, size)
    needed = needed_for_head(head, location)
    return read(0, needed) if len(head) == size < needed else head


def clusters(packs: Iterable[Listed]) -> Iterator[list[Listed]]:
    """Yield groups of packs with overlapping gaps. ``packs`` are in the order of their first elements."""
    cluster: list[Listed] = []
    end = 0
    for pack in packs:
        first, number, _ = pack.location
        if cluster and first >= end:
            yield cluster
            cluster = []
        cluster.append(pack)
        end = max(end, first + number)
    if cluster:
        yield cluster


class Choice:
    """The packs of a cluster that may have the outcome of an element: one for each round, the newest round first.

    In a round, this is the pack with the smallest gap around the element. Every other one was stored before, and left
    the element open.
    """

    def __init__(self, cluster: Sequence[Listed]) -> None:
        self._packs = sorted(cluster, key=_precedence)
        self._start = min(pack.location.first for pack in cluster)
        self._size = max(pack.location.first + pack.location.number for pack in cluster) - self._start
        rounds = sorted({pack.location.round for pack in cluster}, reverse=True)
        self._layers = [self._layer(round) for round in rounds]

    def _layer(self, round: int) -> array[int]:
        """Return the number of the pack for each element in a round, from 1; 0 for an element without a pack."""
        layer = array("I", bytes(4 * self._size))
        for number, pack in enumerate(self._packs, 1):
            if pack.location.round == round:
                position = pack.location.first - self._start
                layer[position : position + pack.location.number] = array("I", [number]) * pack.location.number
        return layer

    def of(self, element: int) -> list[Listed]:
        """Return the packs that may have the outcome of an element. The first one with an outcome counts."""
        numbers = [layer[element - self._start] for layer in self._layers] if element >= self._start else []
        return [self._packs[number - 1] for number in numbers if number]

    def extent(self, pack: Listed) -> int:
        """Return the number of elements for which `of` returns a pack: the most outcomes that it can have."""
        number = self._packs.index(pack) + 1
        return max(layer.count(number) for layer in self._layers)

    def newest(self, element: int) -> Listed | None:
        """Return the first pack that `of` returns; None without any."""
        return next(iter(self.of(element)), None)


def _precedence(pack: Listed) -> tuple[int, int]:
    # A smaller gap is written over the larger one that contains it.
    return -pack.location.number, pack.location.first
