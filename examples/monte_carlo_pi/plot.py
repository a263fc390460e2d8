"""Draw the convergence of the estimate: 20 estimates of pi for each number of darts, against the expected error.

On this machine, without an AWS account:  CLOUDKNOT_CLOUD=local python plot.py
On AWS:                                   python plot.py

Writes convergence.svg. With --quick, it throws at most 10,000 darts for an estimate.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import cloudknot as ck

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (100, 316, 1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000)
REPEATS = 20
PICTURE = "convergence.svg"
BLUE, ORANGE = "#0072b2", "#d55e00"
"""Colours that colour-blind people can distinguish (Okabe and Ito)."""


def estimate(darts: int, seed: int) -> float:
    """Return an estimate of pi from a number of darts. The same seed gives the same estimate."""
    import random

    # A seed for each estimate: with the same seed, the first darts of all sizes would be the same.
    generator = random.Random(f"{darts} darts, {seed}")
    hits = sum(generator.random() ** 2 + generator.random() ** 2 <= 1.0 for _ in range(darts))
    return 4 * hits / darts


def expected_error(darts: float) -> float:
    """Return the standard deviation of an estimate: a hit has the probability pi/4 and counts 4/darts."""
    return math.sqrt(math.pi * (4 - math.pi) / darts)


def error_of(estimates: list[float]) -> float:
    """Return the root mean square of the errors of estimates."""
    return math.sqrt(sum((value - math.pi) ** 2 for value in estimates) / len(estimates))


def estimates_by_darts(sizes: tuple[int, ...]) -> dict[int, list[float]]:
    """Return REPEATS estimates for each number of darts, made in REPEATS child jobs."""
    knot = ck.Knot(name="pi-convergence", func=estimate)
    # The order and the chunks give each child one estimate of each size, so that all children take equally long.
    arguments = [(darts, seed) for seed in range(REPEATS) for darts in sizes]
    values = knot.map(arguments, starmap=True, chunksize=len(sizes)).result()
    return {darts: values[position :: len(sizes)] for position, darts in enumerate(sizes)}


def table(estimates: dict[int, list[float]]) -> str:
    """Return the mean, the error and the expected error for each number of darts, as lines of text."""
    lines = [f"{'darts':>9}  {'mean':>8}  {'error':>8}  {'expected':>8}"]
    for darts, values in estimates.items():
        mean = sum(values) / len(values)
        lines.append(f"{darts:>9,}  {mean:8.5f}  {error_of(values):8.5f}  {expected_error(darts):8.5f}")
    return "\n".join(lines)


def draw(estimates: dict[int, list[float]]) -> Figure:
    """Return a figure of all estimates in their expected band, and of their error over the number of darts."""
    from matplotlib.figure import Figure

    sizes = list(estimates)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)

    curve = [sizes[0] * (sizes[-1] / sizes[0]) ** (step / 100) for step in range(101)]
    band = [1.96 * expected_error(darts) for darts in curve]
    lower, upper = [math.pi - half for half in band], [math.pi + half for half in band]
    left.fill_between(curve, lower, upper, color=BLUE, alpha=0.2, linewidth=0, label="expected for 95 %")
    left.axhline(math.pi, color=BLUE, linewidth=1, label="pi")
    points = [(darts, value) for darts, values in estimates.items() for value in values]
    left.plot(*zip(*points, strict=True), ".", color=ORANGE, markersize=4, label="one estimate")
    left.set(xscale="log", xlabel="darts for one estimate", ylabel="estimate of pi")
    left.legend()

    right.plot(sizes, [expected_error(darts) for darts in sizes], color=BLUE, label="expected: 1.64 / √darts")
    right.plot(sizes, [error_of(values) for values in estimates.values()], "o", color=ORANGE, label="measured")
    right.set(
        xscale="log", yscale="log", xlabel="darts for one estimate", ylabel=f"error (rms of {REPEATS} estimates)"
    )
    right.legend()
    return figure


def main() -> None:
    import matplotlib

    sizes = SIZES[:5] if "--quick" in sys.argv[1:] else SIZES
    estimates = estimates_by_darts(sizes)
    print(table(estimates))
    matplotlib.rcParams["svg.hashsalt"] = "pi"  # the same estimates give the same file
    draw(estimates).savefig(PICTURE, metadata={"Date": None})
    print("saved", PICTURE)


if __name__ == "__main__":
    main()
