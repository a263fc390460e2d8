"""The work of the paper: seconds for the steady state of the heat equation by Gauss-Seidel, in plain Python.

The number of sweeps is the paper's, found by running its algorithm. A test runs it again on small grids.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.benchmarks.batch_model.constants import HeatConstants

SWEEPS = {10: 78, 15: 163, 25: 383, 50: 1015, 75: 1600, 80: 1812, 100: 2758, 125: 4136, 150: 5708, 175: 7453}
"""Sweeps for each side length until ``numpy.allclose(new, old)``, with 100 degrees at one edge and 0 at the others.

The criterion is relative, so other temperatures need the same number within 0.3 %. Zero degrees need one sweep.
"""


def seconds_of(side: int, count: int, constants: HeatConstants | None = None) -> Callable[[int], float]:
    """Return a function that returns the seconds of an element on an EC2 instance.

    Parameters
    ----------
    side : int
        Points along one side of the grid. One of `SWEEPS`.
    count : int
        Elements: temperatures from 0 to 100 degrees. Element 0 has zero degrees.
    constants : HeatConstants, optional
    """
    point = (constants or HeatConstants()).point
    interior = (side - 2) ** 2
    first = point * interior
    other = first * SWEEPS[side]

    def seconds(element: int) -> float:
        return other if element and count > 1 else first

    return seconds


def memory_of(side: int) -> float:
    """Return the MiB of the two grids that the function holds."""
    return 2 * side * side * 8 / 2**20
