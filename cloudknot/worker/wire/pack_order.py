"""The packs that a listing of a run's outputs shows, in the order in which they count. Pure.

Two attempts of one child may run at the same time, when Batch believes a host lost that is not. Each then stores packs
of its own, which may overlap. The one that was stored first counts, because a future may have shown it already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from .keys import Location


class Listed(NamedTuple):
    """A pack in a listing: which, its size in bytes, and when it was stored (S3 tells whole seconds)."""

    location: Location
    size: int
    stored: datetime


def oldest_first(pages: Iterable[list[Listed]]) -> Iterator[list[tuple[Location, int]]]:
    """Pages of packs in the order of their first elements, those that overlap in the order they were stored in.

    What may overlap with the next page comes with that one.
    """
    held: list[Listed] = []
    end = 0
    for page in pages:
        ready: list[tuple[Location, int]] = []
        for pack in page:
            if held and pack.location.first >= end:
                ready += _by_age(held)
                held = []
            held.append(pack)
            end = max(end, pack.location.first + pack.location.number)
        if ready:
            yield ready
    if held:
        yield _by_age(held)


def _by_age(packs: list[Listed]) -> list[tuple[Location, int]]:
    if len(packs) > 1:
        packs = sorted(packs, key=lambda pack: (pack.stored, pack.location.round, pack.location))
    return [(pack.location, pack.size) for pack in packs]
