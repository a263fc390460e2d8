"""Draw the figures of docs/benchmarks.md as SVG. The same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE
from tests.benchmarks.rivals.plan import ALWAYS_ISOLATING, FRESH_SHARES, ONLY_FRESH, SCIENCE
from tests.benchmarks.rivals.reporting.tables import MB, MS, NAMES, TITLES, science_ways
from tests.benchmarks.rivals.results import Results, Spread

matplotlib.use("svg")
from matplotlib import pyplot as plt

STYLE = {
    "svg.hashsalt": "rivals",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "ytick.left": False,
}
OURS, OTHERS, FAINT = "#0072B2", "#6E6E6E", "#C9C9C9"
"""Blue and greys are distinct in every kind of colour vision, and in print."""
ROW = 0.34
"""Inches of a row."""


@dataclass(frozen=True)
class Point:
    """One row of a panel."""

    label: str
    spread: Spread | None
    ours: bool
    absent: str = "not measured"


Panel = tuple[str, list[Point]]
"""A title, and a row for each contestant."""


def draw(results: Results, folder: Path) -> None:
    """Draw the figures for the work that the results have."""
    drawings = {
        "overhead": (_overhead(results), "ms for each element", "log"),
        "science": (_science(results), "wall time, as a multiple of half the time of the serial loop", "ratio"),
        "memory": (_memory(results), f"peak memory in MB, {results.sizes.many:,} elements in 4 chunks", "zero"),
    }
    with plt.rc_context(STYLE):
        for name, (panels, label, scale) in drawings.items():
            if any(point.spread for _, points in panels for point in points):
                _save(_panels(panels, label, scale), folder / f"rivals_{name}.svg")


def _overhead(results: Results) -> list[Panel]:
    sizes = results.sizes
    works = (
        (f"{sizes.many:,} elements in 4 chunks", ("trivial", "trivial", CHUNKS, sizes.many)),
        (f"{sizes.single:,} elements, one task each", ("trivial", "trivial", SINGLE, sizes.single)),
        ("one fresh process each", ("fresh", "trivial", FRESH, 0)),
    )
    panels = []
    for title, work in works:
        points = []
        for name in results.contestants:
            count = sizes.fresh_count(name) if work[2] == FRESH and name in FRESH_SHARES else work[3]
            spread = results.spread(lambda m: m.seconds * MS / m.count, name, *work[:3], count)
            points.append(Point(NAMES[name], spread, name == "cloudknot", _absent(name, work[2])))
        panels.append((title, points))
    return panels


def _absent(name: str, way: str) -> str:
    """Return the reason why a contestant has no figure."""
    if way != FRESH and name in ONLY_FRESH:
        return "as above"
    return "a fresh process each" if way == SINGLE and name in ALWAYS_ISOLATING else "no such way"


def _science(results: Results) -> list[Panel]:
    ideals = {m.workload: m.seconds / 2 for m in results.serial}
    panels = []
    for workload in [name for name in SCIENCE if name in ideals]:
        points = []
        for name in results.usual:
            for way, _ in science_ways(name):
                work = (name, "science", workload, way, getattr(results.sizes, workload))
                spread = results.spread(lambda m: m.seconds / ideals[m.workload], *work)
                label = "cloudknot, 4 chunks" if (name, way) == ("cloudknot", CHUNKS) else NAMES[name]
                points.append(Point(label, spread, name == "cloudknot"))
        panels.append((TITLES[workload], points))
    return panels


def _memory(results: Results) -> list[Panel]:
    work = ("memory", "trivial", CHUNKS, results.sizes.many)
    panels = []
    for title, cost in (("the user's session", "client_memory"), ("all processes", "tree_memory")):
        spreads = {
            name: results.spread(lambda m, cost=cost: getattr(m, cost) * MB, name, *work) for name in results.usual
        }
        panels.append((title, [Point(NAMES[name], spread, name == "cloudknot") for name, spread in spreads.items()]))
    return panels


def _panels(panels: Sequence[Panel], label: str, scale: str) -> Any:
    """Return a figure with a panel for each kind of work, and a row for each contestant."""
    rows = len(panels[0][1])
    size = (9.6, 1.1 + ROW * rows)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, (title, points) in zip(axes[0], panels, strict=True):
        axis.set_title(title)
        for row, point in enumerate(points):
            _row(axis, row, point)
        axis.set_yticks(range(rows), [point.label for point in points])
        axis.set_ylim(rows - 0.4, -0.6)
        _scale(axis, scale)
    for text, point in zip(axes[0][0].get_yticklabels(), panels[0][1], strict=True):
        text.set_color(OURS if point.ours else "black")
    figure.supxlabel(label, fontsize=9)
    return figure


def _scale(axis: Any, scale: str) -> None:
    """Set the limits and ticks of the horizontal axis."""
    if scale == "log":
        axis.set_xscale("log")
        least, most = axis.get_xlim()
        # Whole decades, so that each panel has at least two labelled ticks.
        axis.set_xlim(10 ** math.floor(math.log10(least)) * 0.8, 10 ** math.ceil(math.log10(most)) * 1.25)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.minorticks_off()
        return
    axis.margins(x=0.2)
    if scale == "ratio":
        axis.axvline(1, color=FAINT, linewidth=1, zorder=0)
    else:
        axis.set_xlim(left=0)


def _row(axis: Any, row: int, point: Point) -> None:
    """Draw the median as a dot with its value, and the least and the most as a line."""
    axis.axhline(row, color="#EEEEEE", linewidth=0.8, zorder=0)
    if point.spread is None:
        axis.annotate(
            point.absent, (0.02, row), xycoords=("axes fraction", "data"), va="center", color=OTHERS, style="italic"
        )
        return
    colour, spread = OURS if point.ours else OTHERS, point.spread
    axis.plot([spread.least, spread.most], [row, row], color=colour, linewidth=2, solid_capstyle="round", alpha=0.5)
    axis.plot(spread.median, row, "o", color=colour, markersize=6)
    axis.annotate(
        _short(spread.median),
        (spread.median, row),
        (0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color=colour,
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _save(figure: Any, path: Path) -> None:
    # Without a date, the same figures give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
