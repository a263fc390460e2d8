"""The rule that decides between overlapping packs, for the collector and for jobs that take another run's results.

Two attempts of one child may run at the same time, if Batch wrongly believes that a host is lost. Each then stores its
own packs, and these may overlap. A value counts more than a failure, and a failure of a later round counts more than
one of an earlier round. Otherwise the pack that was stored first counts, because a future may have shown it already.

The collector applies the rule to whole packs. It reads them in the order of `oldest_first`, and its table of elements
lets a value replace a failure. A job reads clusters of packs, and calls `choose_packs` for each. This module does no
I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from .failure import VALUE
from .keys import Location


class Listed(NamedTuple):
    """A pack in a listing: its location, its size in bytes, and its storage time in whole seconds."""

    location: Location
    size: int
    stored: datetime


class _Overlaps:
    """The packs that may overlap with the next one in the listing."""

    def __init__(self) -> None:
        self._packs: list[Listed] = []
        self._end = 0

    def add(self, pack: Listed) -> list[Listed]:
        """Add the next pack. Return the earlier ones, oldest first, if it begins behind all of them."""
        # A listing is sorted by first elements, so later packs cannot overlap with the earlier ones either.
        complete = self.rest() if pack.location.first >= self._end else []
        self._packs.append(pack)
        self._end = max(self._end, pack.location.first + pack.location.number)
        return complete

    def rest(self) -> list[Listed]:
        """Remove and return the remaining packs, oldest first."""
        packs, self._packs = self._packs, []
        return sorted(packs, key=_age) if len(packs) > 1 else packs


def _age(pack: Listed) -> tuple[datetime, int, Location]:
    # S3 reports whole seconds, so the round and the key decide between packs of the same second.
    return pack.stored, pack.location.round, pack.location


def clusters(packs: Iterable[Listed]) -> Iterator[list[Listed]]:
    """Yield groups of overlapping packs, each oldest first. ``packs`` are in the order of their first elements."""
    overlaps = _Overlaps()
    for pack in packs:
        if cluster := overlaps.add(pack):
            yield cluster
    if cluster := overlaps.rest():
        yield cluster


def oldest_first(pages: Iterable[list[Listed]]) -> Iterator[list[tuple[Location, int]]]:
    """Yield pages of packs with overlapping packs in order of storage.

    ``pages`` are in the order of first elements. Packs that may overlap with the next page are yielded with that page.
    """
    overlaps = _Overlaps()
    for page in pages:
        if complete := [earlier for pack in page for earlier in overlaps.add(pack)]:
            yield [(pack.location, pack.size) for pack in complete]
    if rest := overlaps.rest():
        yield [(pack.location, pack.size) for pack in rest]


def choose_packs(cluster: Sequence[Listed], kinds_of: Callable[[Location], Sequence[int]]) -> dict[int, Listed]:
    """Return the pack that counts for each element of a cluster.

    Parameters
    ----------
    cluster : sequence of Listed
        A group from `clusters`.
    kinds_of : callable
        Returns the kinds of a pack's outcomes. It is called only if packs overlap, since it costs a request.
    """
    if len(cluster) == 1:
        first, number, _ = cluster[0].location
        return dict.fromkeys(range(first, first + number), cluster[0])
    chosen: dict[int, tuple[Listed, bool]] = {}
    for pack in cluster:
        for index, kind in enumerate(kinds_of(pack.location), pack.location.first):
            current, current_ok = chosen.get(index, (None, False))
            ok = kind == VALUE
            is_later = current is not None and not ok and pack.location.round > current.location.round
            if current is None or (not current_ok and (ok or is_later)):
                chosen[index] = pack, ok
    return {index: pack for index, (pack, _) in chosen.items()}
