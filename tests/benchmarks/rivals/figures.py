"""Draw the figures of docs/benchmarks.md as SVG. The same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from tests.benchmarks.rivals.contestants import CHUNKS, FRESH, SINGLE
from tests.benchmarks.rivals.plan import ALWAYS_ISOLATING, SCIENCE
from tests.benchmarks.rivals.report import MB, MS, NAMES, TITLES, science_ways
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
"""Blue and greys are told apart in every kind of colour vision, and in print."""
ROW = 0.34
"""Inches of a row."""


@dataclass(frozen=True)
class Point:
    """One row of a panel."""

    label: str
    spread: Spread | None
    ours: bool
    absent: str = "no such way"


def draw(results: Results, folder: Path) -> None:
    """Draw the figures for the work that the results have."""
    with plt.rc_context(STYLE):
        for name, panels in (("overhead", _overhead(results)), ("science", _science(results))):
            if any(point.spread for _, points in panels for point in points):
                _save(_panels(panels, *AXES[name]), folder / f"rivals_{name}.svg")
        if any(m.group == "memory" for m in results.measurements):
            _save(_memory(results), folder / "rivals_memory.svg")


AXES = {
    "overhead": ("ms for each element, logarithmic", True),
    "science": ("wall time, as a multiple of half the serial loop's", False),
}


def _overhead(results: Results) -> list[tuple[str, list[Point]]]:
    sizes = results.sizes
    works = (
        (f"{sizes.many:,} elements in 4 chunks", ("trivial", "trivial", CHUNKS, sizes.many)),
        (f"{sizes.few:,} elements, one task each", ("trivial", "trivial", SINGLE, sizes.few)),
        (f"{sizes.fresh:,} elements, one fresh process each", ("fresh", "trivial", FRESH, sizes.fresh)),
    )
    panels = []
    for title, work in works:
        points = []
        for name in results.contestants:
            spread = results.spread(lambda m: m.seconds * MS / m.count, name, *work)
            absent = "a fresh process each" if work[2] == SINGLE and name in ALWAYS_ISOLATING else "no such way"
            points.append(Point(NAMES[name], spread, name == "cloudknot", absent))
        panels.append((title, points))
    return panels


def _science(results: Results) -> list[tuple[str, list[Point]]]:
    ideals = {m.workload: m.seconds / 2 for m in results.serial}
    panels = []
    for workload in [name for name in SCIENCE if name in ideals]:
        points = []
        for name in results.contestants:
            for way, _ in science_ways(name):
                work = (name, "science", workload, way, getattr(results.sizes, workload))
                spread = results.spread(lambda m: m.seconds / ideals[m.workload], *work)
                label = "cloudknot, 4 chunks" if (name, way) == ("cloudknot", CHUNKS) else NAMES[name]
                points.append(Point(label, spread, name == "cloudknot"))
        panels.append((TITLES[workload], points))
    return panels


def _panels(panels: Sequence[tuple[str, Sequence[Point]]], label: str, logarithmic: bool) -> Any:
    """Return a figure with a panel for each kind of work, and a row for each contestant."""
    rows = len(panels[0][1])
    figure, axes = plt.subplots(1, len(panels), figsize=(9.6, 1.1 + ROW * rows), sharey=True, layout="constrained")
    for axis, (title, points) in zip(axes, panels, strict=True):
        if logarithmic:
            axis.set_xscale("log")
        else:
            axis.axvline(1, color=FAINT, linewidth=1, zorder=0)
        axis.set_title(title)
        for row, point in enumerate(points):
            _row(axis, row, point)
        axis.set_yticks(range(rows), [point.label for point in points])
        axis.set_ylim(rows - 0.4, -0.6)
        axis.margins(x=0.3 if logarithmic else 0.25)
    for text, point in zip(axes[0].get_yticklabels(), panels[0][1], strict=True):
        text.set_color(OURS if point.ours else "black")
    figure.supxlabel(label, fontsize=9)
    return figure


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


def _memory(results: Results) -> Any:
    """Return bars for the user's session, and a mark for all processes."""
    work = ("memory", "trivial", CHUNKS, results.sizes.many)
    rows = [
        (
            name,
            results.spread(lambda m: m.client_memory * MB, name, *work),
            results.spread(lambda m: m.tree_memory * MB, name, *work),
        )
        for name in results.contestants
    ]
    figure, axis = plt.subplots(figsize=(9.6, 1.1 + ROW * len(rows)), layout="constrained")
    for row, (name, client, tree) in enumerate(rows):
        if client and tree:
            colour = OURS if name == "cloudknot" else OTHERS
            axis.barh(row, tree.median, 0.62, color=colour, alpha=0.25, label="all processes" if row == 0 else None)
            axis.barh(row, client.median, 0.62, color=colour, label="the user's session" if row == 0 else None)
            axis.annotate(
                f"{client.median:,.0f}, all {tree.median:,.0f}",
                (max(client.median, tree.median), row),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=colour,
            )
    axis.set_yticks(range(len(rows)), [NAMES[name] for name, *_ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.margins(x=0.12)
    axis.set_xlabel(f"peak memory in MB, {results.sizes.many:,} elements in 4 chunks")
    axis.legend(frameon=False, loc="lower right")
    return figure


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _save(figure: Any, path: Path) -> None:
    # Without a date, the same figures give the same file.
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
