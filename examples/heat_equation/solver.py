"""Solve the steady state of the two-dimensional heat equation on a square plate, by Gauss-Seidel.

One side of the plate is hot, and the other three are at 0 degrees Celsius. In the steady state each interior point of
the grid has the mean temperature of its four neighbours. This module needs numpy only, and knows no cloud.

The sweeps are red-black: first all points of one colour of a chessboard, then all points of the other. A point's
neighbours all have the other colour, so each half-sweep already uses the newest values. That is Gauss-Seidel in
another order. It has the same rate of convergence as the order row by row (the square of Jacobi's rate), and numpy
can update a whole colour at once.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-3
"""Degrees Celsius."""
CHECK_EVERY = 10
"""Sweeps between two computations of the error bound, which costs about as much as a sweep."""


@dataclass(frozen=True)
class SteadyState:
    """The steady state of a plate."""

    temperatures: NDArray[np.float64]
    """Degrees Celsius on the grid and its four sides: ``size + 2`` rows and columns. Row 0 is the hot side."""
    sweeps: int
    error_bound: float
    """No temperature differs from the exact solution of the grid's equations by more than these degrees."""


@dataclass(frozen=True)
class _Lattice:
    """Every second point of every second row, as views into the grid: half of the points of one colour."""

    points: NDArray[np.float64]
    neighbours: tuple[NDArray[np.float64], ...]
    total: NDArray[np.float64]

    def relax(self) -> None:
        """Set each point to the mean of its four neighbours."""
        above, below, left, right = self.neighbours
        np.add(above, below, out=self.total)
        np.add(self.total, left, out=self.total)
        np.add(self.total, right, out=self.total)
        np.multiply(self.total, 0.25, out=self.points)


def solve(size: int, temperature: float, tolerance: float = TOLERANCE, max_sweeps: int = 1_000_000) -> SteadyState:
    """Return the steady state of a plate with ``size`` x ``size`` interior points and one side at ``temperature``.

    The sweeps start with an interior at 0 degrees. They end when the error bound is at most ``tolerance`` degrees.
    The work grows with the fourth power of ``size``: ``size ** 2`` points, and about ``size ** 2`` sweeps.
    """
    if size < 1:
        raise ValueError(f"size={size} is not a number of points from 1 upwards.")
    if tolerance <= 0:
        raise ValueError(f"tolerance={tolerance} is not above 0. No number of sweeps reaches it.")
    grid = np.zeros((size + 2, size + 2))
    grid[0] = temperature
    lattices = list(_lattices(grid))
    for sweeps in range(0, max_sweeps + 1, CHECK_EVERY):
        if (bound := error_bound(grid)) <= tolerance:
            return SteadyState(grid, sweeps, bound)
        for _ in range(CHECK_EVERY):
            for lattice in lattices:
                lattice.relax()
    raise ArithmeticError(f"After {max_sweeps} sweeps the error may still be {bound:.3g} degrees.")


def timed_solve(size: int, temperature: float) -> tuple[SteadyState, float]:
    """Return the steady state, and the seconds that its solution took."""
    start = time.process_time()
    steady_state = solve(size, temperature)
    return steady_state, time.process_time() - start


def check(steady_state: SteadyState, temperature: float) -> None:
    """Raise an error unless the middle of the plate has a quarter of the hot side's temperature.

    This holds by symmetry. The steady states of four plates, each with another side hot, add up to a plate that has
    the hot temperature everywhere.
    """
    temperatures = steady_state.temperatures
    central = [(len(temperatures) - 1) // 2, len(temperatures) // 2]
    middle = temperatures[np.ix_(central, central)].mean()
    if abs(middle - temperature / 4) > steady_state.error_bound + 1e-12 * abs(temperature):
        raise ArithmeticError(f"The middle of the plate has {middle} degrees instead of {temperature / 4}.")


def error_bound(grid: NDArray[np.float64]) -> float:
    """Return the largest possible difference from the exact solution of the grid's equations.

    The difference obeys the same equations, with the residual as a source of heat. A plate with a uniform source of 1
    and cold sides is nowhere hotter than (x(1 - x) + y(1 - y)) / 4. That function is at most 1/8. By the discrete
    maximum principle, the difference is then at most 1/8 of the largest source.
    """
    spacing = 1 / (len(grid) - 1)
    means = (grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:]) / 4
    source = 4 * np.abs(means - grid[1:-1, 1:-1]).max() / spacing**2
    return float(source / 8)


def _lattices(grid: NDArray[np.float64]) -> Iterator[_Lattice]:
    """Yield the two lattices of red points, then the two of black points. Some are empty on a tiny grid."""
    for row, column in ((1, 1), (2, 2), (1, 2), (2, 1)):
        rows, columns = slice(row, -1, 2), slice(column, -1, 2)
        points = grid[rows, columns]
        above, below = grid[row - 1 : -2 : 2, columns], grid[row + 1 :: 2, columns]
        left, right = grid[rows, column - 1 : -2 : 2], grid[rows, column + 1 :: 2]
        yield _Lattice(points, (above, below, left, right), np.empty_like(points))
