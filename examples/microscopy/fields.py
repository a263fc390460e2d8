"""Split movies into overlapping fields of view, and join the spots of the fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARGIN = 24
"""Pixels that a field sees beyond its own part. ImageJ's blurs reach about 10 pixels, so a field and the whole movie
give a spot the same position."""


@dataclass(frozen=True)
class Field:
    """A field of view. The fields overlap, and the parts that they own tile the movie.

    Attributes
    ----------
    left, top, right, bottom : int
        The pixels of the field: the columns from ``left`` to before ``right``, and the rows from ``top`` to before
        ``bottom``.
    part : tuple of float
        The part of the movie that the field owns, as left, top, right and bottom.
    """

    left: int
    top: int
    right: int
    bottom: int
    part: tuple[float, float, float, float]

    def own(self, spots: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the spots in the part that the field owns. The first columns are frame, x and y."""
        left, top, right, bottom = self.part
        x, y = spots[:, 1], spots[:, 2]
        return spots[(x >= left) & (x < right) & (y >= top) & (y < bottom)]


def split(size: int, across: int) -> list[Field]:
    """Return ``across`` times ``across`` fields of a square movie, row by row. One field is the whole movie."""
    seams = [size * number // across for number in range(across + 1)]
    # A spot on the border of the movie can have a position just outside of it.
    limits = [-np.inf, *seams[1:-1], np.inf]
    spans = [
        (max(seams[n] - MARGIN, 0), min(seams[n + 1] + MARGIN, size), limits[n], limits[n + 1]) for n in range(across)
    ]
    return [
        Field(left, top, right, bottom, (part_left, part_top, part_right, part_bottom))
        for top, bottom, part_top, part_bottom in spans
        for left, right, part_left, part_right in spans
    ]


def join(fields: list[Field], spots: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the spots of a movie, from the spots of its fields. A spot that several fields see counts once."""
    joined = np.concatenate([field.own(seen) for field, seen in zip(fields, spots, strict=True)])
    frame, x, y = joined[:, 0], joined[:, 1], joined[:, 2]
    return joined[np.lexsort((x, y, frame))]
