"""The figures of the model as SVG, with the same bytes each time. Only this module imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tests.benchmarks.batch_model import paper
from tests.benchmarks.batch_model.constants import LambdaConstants
from tests.benchmarks.batch_model.experiments import STRESS, Series, Sweep

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.edgecolor": "#888888",
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.8,
    "svg.hashsalt": "cloudknot",
    "svg.fonttype": "path",
}
BLUE, ORANGE, GREEN, GREY, RED = "#0072b2", "#d55e00", "#009e73", "#777777", "#b3003c"
"""Colours that readers with colour blindness can tell apart (Okabe and Ito)."""
TIMES = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h", 360_000: "100 h"}
PAPER = {
    "default": (BLUE, "cloudknot, default settings"),
    "custom": (ORANGE, "cloudknot, custom settings"),
    "pywren": (GREEN, "PyWren"),
}
CHUNKS = {
    "chunksize=1": (BLUE, "-", "chunksize=1, as in the paper"),
    "default": (RED, "--", "no chunksize"),
    "auto": (ORANGE, "--", 'chunksize="auto"'),
    "even": (GREY, "-", "a chunk for each of 64 slots"),
    "chunksize=5": (GREY, "-", "chunksize=5"),
    "pywren": (GREEN, "-", "PyWren"),
}
"""Colour, dashes and label of each line. Dashes keep a line visible that lies on another."""
NOTE = "Model of AWS Batch and Lambda, not a measurement."


def draw_paper(second: Mapping[str, Series], third: Mapping[str, Series], folder: Path) -> Path:
    """Draw the paper's figures 2 and 3: the model's bands with the published points."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = _figure(f"{NOTE} Circles: points published in the paper.")
        for axes, series, published in ((left, second, paper.FIGURE_2), (right, third, paper.FIGURE_3)):
            for name, line in series.items():
                colour, label = PAPER[name]
                _band(axes, line, colour, label if axes is left else "_hidden")
                points = published[name]
                axes.plot(*_columns(points), "o", color=colour, mfc="white", ms=4.5, mew=1.2, zorder=4)
            _time_axis(axes)
        _powers(left, second["default"].x)
        left.set(title="Figure 2: 10 \u00d7 10 grid", xlabel="arguments", ylabel="time")
        _sides(right, third["default"].x)
        right.set(title="Figure 3: five temperatures", xlabel="points along a side of the grid")
        _limit(right, third["pywren"])
        left.legend(loc="upper left", frameon=False)
        right.legend(loc="lower right", frameon=False)
        return _save(figure, folder / "batch_model_paper.svg")


def draw_chunks(second: Mapping[str, Series], third: Mapping[str, Series], several: int, folder: Path) -> Path:
    """Draw the paper's figures with several chunk sizes: figure 3 with ``several`` temperatures and with five."""
    grids = {
        name: {key.removeprefix(f"{name}, "): line for key, line in third.items() if key.startswith(f"{name}, ")}
        for name in ("several", "five")
    }
    with mpl.rc_context(STYLE):
        figure, (left, middle, right) = _figure(f"{NOTE} Default settings, warm machines.", columns=3)
        for axes, series in ((left, second), (middle, grids["several"]), (right, grids["five"])):
            for name, line in series.items():
                colour, dashes, label = CHUNKS[name]
                axes.plot(*_defined(line), dashes, color=colour, label=label)
            _time_axis(axes)
        _powers(left, second["auto"].x, step=4)
        left.axvline(10_000, ymax=0.72, color=GREY, lw=0.8)
        left.annotate(
            "10,000 children:\nBatch's limit",
            (10_000, 2.2),
            (-4, 0),
            textcoords="offset points",
            ha="right",
            color=GREY,
        )
        left.set(title="Figure 2: 8 ms an element", xlabel="arguments", ylabel="time")
        for axes, count in ((middle, several), (right, paper.TEMPERATURES)):
            _sides(axes, third["five, auto"].x)
            axes.set(title=f"Figure 3: {count:,} temperatures", xlabel="points along a side of the grid")
        for axes in (left, middle, right):
            axes.set_ylim(1.8, 150_000)
            axes.legend(loc="upper left", frameon=False, fontsize=8)
        return _save(figure, folder / "batch_model_chunksize.svg")


def draw_sweep(sweeps: Mapping[str, Sweep], count: int, folder: Path) -> Path:
    """Draw time and cost over the chunk size, with and without Spot losses."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = _figure(
            f'{NOTE} 64 warm machines. On Spot: {STRESS:g} loss per machine and hour. Diamonds: chunksize="auto".'
        )
        for (name, sweep), colour in zip(sweeps.items(), (GREEN, BLUE, ORANGE), strict=True):
            left.plot(sweep.chunksizes, sweep.seconds, color=colour, label=f"{name} an element")
            spot = f"{name} an element, on Spot"
            left.plot(*_pairs(sweep.chunksizes, sweep.spot_seconds), ":", color=colour, label=spot)
            right.plot(sweep.chunksizes, sweep.vcpu_hours, color=colour)
            for axes, value in ((left, sweep.automatic_seconds), (right, sweep.automatic_vcpu_hours)):
                axes.plot(sweep.automatic, value, "D", color=colour, ms=6, mec="white", zorder=4)
        _time_axis(left)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("chunksize")
        right.set_yscale("log")
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        left.set(title=f"{count:,} elements: time", ylabel="time")
        left.set_ylim(top=1_500_000)
        right.set(title="Cost, idle machines included", ylabel="vCPU hours")
        left.legend(loc="upper left", frameon=False, fontsize=8)
        return _save(figure, folder / "batch_model_spot.svg")


def _figure(note: str, columns: int = 2) -> tuple[Figure, Sequence[Axes]]:
    layout = ConstrainedLayoutEngine(rect=(0, 0.035, 1, 0.965), wspace=0.04)
    figure = Figure(figsize=(9.2, 4.1), layout=layout)
    figure.text(0.995, 0.005, note, ha="right", va="bottom", fontsize=7.5, color=GREY)
    return figure, figure.subplots(1, columns)


def _band(axes: Axes, line: Series, colour: str, label: str) -> None:
    x, low = _defined(line)
    high = [value for value in line.high if value is not None]
    if low == high:
        axes.plot(x, low, color=colour, label=label)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.22, lw=0, label=f"{label}: warm to cold")
        axes.plot(x, low, color=colour, lw=1.2)
        axes.plot(x, high, color=colour, lw=0.6)


def _defined(line: Series) -> tuple[list[int], list[float]]:
    """Return the points of a line at which the map is possible."""
    return _pairs(line.x, line.low)


def _pairs(xs: Sequence[int], ys: Sequence[float | None]) -> tuple[list[int], list[float]]:
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _columns(points: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return list(points), list(points.values())


def _time_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(list(TIMES)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: TIMES.get(round(value), "")))
    axes.yaxis.set_minor_locator(NullLocator())


def _powers(axes: Axes, x: Sequence[int], step: int = 2) -> None:
    """Use a logarithmic axis with every second power of two, or with every one in ``step``."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(x[step - 1 :: step])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="x", labelsize=8)


def _sides(axes: Axes, x: Sequence[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator([side for side in x if side not in (15, 80)]))


def _limit(axes: Axes, pywren: Series) -> None:
    """Show Lambda's limit, and the grids at which PyWren has no result."""
    limit = LambdaConstants().time_limit
    axes.axhline(limit, color=GREEN, lw=0.8, ls="--", zorder=1)
    axes.annotate("Lambda's limit: 300 s", (10, limit), (0, 3), textcoords="offset points", color=GREEN, fontsize=8)
    failed = [x for x, y in zip(pywren.x, pywren.low, strict=True) if y is None]
    label = "PyWren, no result: time limit"
    axes.plot(failed, [limit] * len(failed), "x", color=GREEN, ms=7, mew=2, zorder=4, label=label)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path
