"""Draw the figures of this example from the times that heat_equation.py has stored: python plot.py"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from solver import SteadyState, solve

HERE = Path(__file__).parent
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # The same times give the same file.
    "svg.hashsalt": "heat",
}
# Colours of Okabe and Ito, who chose them for colour-blind readers.
BLUE, VERMILION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
LOOKS = ({"color": BLUE, "marker": "o"}, {"color": VERMILION, "marker": "s"})
LOOP_LOOK = {"color": GREEN, "marker": "^", "linestyle": "--"}


def draw_all(folder: Path) -> None:
    """Draw the sweeps with times in the folder, and the temperatures of a plate."""
    for name, draw in (("arguments", draw_arguments), ("grid", draw_grid)):
        if (times := folder / f"{name}.json").exists():
            save(draw(json.loads(times.read_text(encoding="utf-8"))), folder / f"{name}.svg")
    save(draw_plate(solve(80, 100)), folder / "plate.svg")


@plt.rc_context(STYLE)
def draw_arguments(times: dict[str, Any]) -> Figure:
    """Draw the time of a map over the number of its arguments, a line for each chunk size."""
    figure, axes = plt.subplots(figsize=(7.2, 4.3), layout="constrained")
    timings = times["timings"]
    looks = iter(LOOKS)
    for chunksize in dict.fromkeys(timing["chunksize"] for timing in timings):
        chosen = [timing for timing in timings if timing["chunksize"] == chunksize]
        label, look = "a loop in the session", LOOP_LOOK
        if chunksize:
            label, look = "one job for each" if chunksize == 1 else f"{chunksize} in each job", next(looks)
        draw_line(axes, [(timing["n_args"], timing["seconds"]) for timing in chosen], label=label, **look)
    size = timings[0]["size"]
    axes.set(xlabel="number of arguments", ylabel="time until all results are here (s)")
    axes.set_title(f"Steady states on a grid of {size} x {size} points", loc="left", fontsize=11)
    finish(axes, times["run"])
    return figure


@plt.rc_context(STYLE)
def draw_grid(times: dict[str, Any]) -> Figure:
    """Draw the time of a map over five temperatures by the grid size, and the CPU time of each temperature."""
    figure, axes = plt.subplots(figsize=(7.2, 4.3), layout="constrained")
    timings, temperatures = times["timings"], times["temperatures"]
    draw_line(axes, [(t["size"], t["seconds"]) for t in timings], label="map of all five", color=BLACK, marker="o")
    draw_line(
        axes,
        [(timing["size"], sum(timing["cpu_seconds"])) for timing in timings],
        label="CPU time of all five",
        **LOOP_LOOK,
    )
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.9, len(temperatures)))
    for index, (hot, colour) in reversed(list(enumerate(zip(temperatures, colours, strict=True)))):
        points = [(timing["size"], timing["cpu_seconds"][index]) for timing in timings]
        draw_line(axes, points, label=f"CPU time at {hot:g} °C", color=colour, linewidth=1, marker=".")
    axes.set(xlabel="points on a side of the grid", ylabel="time (s)")
    axes.set_title("Steady states at five temperatures of the hot side", loc="left", fontsize=11)
    finish(axes, times["run"])
    return figure


@plt.rc_context(STYLE)
def draw_plate(steady_state: SteadyState) -> Figure:
    """Draw the temperatures of a plate, with isotherms."""
    temperatures = steady_state.temperatures[1:-1, 1:-1]
    hot = steady_state.temperatures[0, 1]
    size = len(temperatures)
    figure, axes = plt.subplots(figsize=(4.8, 4), layout="constrained")
    edges = {"extent": (0, 1, 0, 1)}
    picture = axes.imshow(temperatures, cmap="inferno", vmin=0, vmax=hot, interpolation="bilinear", **edges)
    levels = axes.contour(
        temperatures[::-1], levels=hot * np.arange(1, 10) / 10, colors="white", linewidths=0.8, **edges
    )
    # Each isotherm has its label in the middle, where x is 0.5. From the bottom to there, temperatures rise.
    middle = temperatures[::-1, size // 2]
    heights = np.interp(levels.levels, middle, (np.arange(size) + 0.5) / size)
    axes.clabel(levels, fmt="%g", fontsize=8, manual=[(0.5, height) for height in heights])
    axes.grid(False)
    axes.set(xlabel="x (side lengths)", ylabel="y (side lengths)", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_title(f"{size} x {size} points, {steady_state.sweeps:,} sweeps", loc="left", fontsize=11)
    figure.colorbar(picture, label="temperature (°C)")
    return figure


def draw_line(axes: Axes, points: Iterable[tuple[float, float]], **look: Any) -> None:
    """Draw the median of the repeats at each x, with a bar from the fastest to the slowest."""
    repeats: dict[float, list[float]] = {}
    for x, y in points:
        repeats.setdefault(x, []).append(y)
    axes.plot(list(repeats), [np.median(values) for values in repeats.values()], **look)
    fastest, slowest = map(min, repeats.values()), map(max, repeats.values())
    axes.vlines(list(repeats), list(fastest), list(slowest), color=look["color"], linewidth=1)


def finish(axes: Axes, run: dict[str, Any]) -> None:
    """Set logarithmic axes with plain numbers, a tick for each measured x, and the facts of the run."""
    axes.set(xscale="log", yscale="log")
    measured = sorted({float(x) for line in axes.get_lines() for x in np.asarray(line.get_xdata())})
    axes.set_xticks(measured, [f"{x:g}" for x in measured])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    runs = "one run" if run["repeats"] == 1 else f"median, fastest and slowest of {run['repeats']} runs"
    facts = f"{run['cloud']}, {run['cores']} cores, {run['date']}, load {run['load']} before the run; {runs}"
    axes.figure.supxlabel(facts, fontsize=8, color="#555555", x=0.01, ha="left")


@plt.rc_context(STYLE)
def save(figure: Figure, path: Path) -> None:
    """Write an SVG without a date, so that the same times give the same file."""
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(f"Drew {path}")


if __name__ == "__main__":
    draw_all(HERE)
