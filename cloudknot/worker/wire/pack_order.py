"""The rule for which pack counts, for the collector and for a job that takes another run's results. Pure.

Two attempts of one child may run at the same time, when Batch believes a host lost that is not. Each then stores packs
of its own, which may overlap. A value wins over a failure, a failure of a later round over one of an earlier round.
Otherwise the pack that was stored first counts, because a future may have shown it already.

The collector applies the rule to whole packs at a time: it reads them in the order of `oldest_first`, and its table of
elements lets a value replace a failure. A job reads clusters of packs, and asks `counting` about each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from .failure import VALUE
from .keys import Location


class Listed(NamedTuple):
    """A pack in a listing: which, its size in bytes, and when it was stored (S3 reports whole seconds)."""

    location: Location
    size: int
    stored: datetime


class _Overlaps:
    """The packs that may overlap with the next one in the listing."""

    def __init__(self) -> None:
        self._held: list[Listed] = []
        self._end = 0

    def add(self, pack: Listed) -> list[Listed]:
        """Take the next pack, and return the earlier ones if no later pack can overlap with them, oldest first."""
        done = self.rest() if pack.location.first >= self._end else []
        self._held.append(pack)
        self._end = max(self._end, pack.location.first + pack.location.number)
        return done

    def rest(self) -> list[Listed]:
        """Return the packs that are still held, oldest first."""
        held, self._held = self._held, []
        return sorted(held, key=_age) if len(held) > 1 else held


def _age(pack: Listed) -> tuple[datetime, int, Location]:
    return pack.stored, pack.location.round, pack.location


def clusters(packs: Iterable[Listed]) -> Iterator[list[Listed]]:
    """Group packs that overlap, each group oldest first. The packs come in the order of their first elements."""
    overlaps = _Overlaps()
    for pack in packs:
        if done := overlaps.add(pack):
            yield done
    if rest := overlaps.rest():
        yield rest


def oldest_first(pages: Iterable[list[Listed]]) -> Iterator[list[tuple[Location, int]]]:
    """Pages of packs in the order of their first elements, those that overlap in the order they were stored in.

    What may overlap with the next page comes with that one.
    """
    overlaps = _Overlaps()
    for page in pages:
        if ready := [found for pack in page for found in overlaps.add(pack)]:
            yield [(pack.location, pack.size) for pack in ready]
    if rest := overlaps.rest():
        yield [(pack.location, pack.size) for pack in rest]


def counting(cluster: Sequence[Listed], kinds_of: Callable[[Location], Sequence[int]]) -> dict[int, Listed]:
    """Return, for each element of a cluster, the pack that counts.

    Parameters
    ----------
    cluster : sequence of Listed
        As `clusters` groups them.
    kinds_of : callable
        Gives the kinds of a pack's outcomes. It is called only where packs overlap.
    """
    if len(cluster) == 1:
        first, number, _ = cluster[0].location
        return dict.fromkeys(range(first, first + number), cluster[0])
    found: dict[int, tuple[Listed, bool]] = {}
    for pack in cluster:
        for index, kind in enumerate(kinds_of(pack.location), pack.location.first):
            known, known_ok = found.get(index, (None, False))
            ok = kind == VALUE
            later = known is not None and not ok and pack.location.round > known.location.round
            if known is None or (not known_ok and (ok or later)):
                found[index] = pack, ok
    return {index: pack for index, (pack, _) in found.items()}
