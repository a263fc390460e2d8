"""The tables of the model, as Markdown for the documentation and for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.benchmarks.batch_model import constants, paper
from tests.benchmarks.batch_model.experiments import ColdStart, Effect, Series, SpotRow, Sweep

FACTOR = 1.5
"""A published point agrees with the model if it lies within this factor of the model's line or band."""


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a Markdown table. The first ``texts`` columns are aligned left, the others right."""
    rule = ["---"] * texts + ["---:"] * (len(heads) - texts)
    lines = [" | ".join(row) for row in (heads, *rows)]
    return "\n".join(f"| {line} |" for line in (lines[0], *lines[1:])).replace("\n", f"\n|{'|'.join(rule)}|\n", 1)


def constants_table() -> str:
    """Return all constants with their sources."""
    rows = [(f"`{row.name}`", row.value, row.kind, row.source) for row in constants.rows()]
    return markdown(["constant", "value", "kind", "source"], rows, texts=4)


def paper_table(title: str, series: Mapping[str, Series], published: Mapping[str, Mapping[int, float]]) -> str:
    """Return the model's seconds beside the paper's."""
    heads = [title, *(f"{name}: {whose}" for name in series for whose in ("model", "paper"))]
    rows = []
    for place, x in enumerate(next(iter(series.values())).x):
        cells = [f"{x:,}"]
        for name, line in series.items():
            point = published[name].get(x)
            cells += [_range(line.low[place], line.high[place]), "" if point is None else number(point)]
        rows.append(cells)
    return markdown(heads, rows, texts=0)


def agreement(series: Mapping[str, Series], published: Mapping[str, Mapping[int, float]]) -> Iterator[bool]:
    """Yield for each published point whether it lies within `FACTOR` of the model's line or band."""
    for name, line in series.items():
        for x, low, high in zip(line.x, line.low, line.high, strict=True):
            point = published[name].get(x)
            if point is not None and low is not None and high is not None:
                yield low / FACTOR <= point <= high * FACTOR


def series_table(title: str, series: Mapping[str, Series]) -> str:
    """Return seconds over ``x``, a column for each line."""
    first = next(iter(series.values()))
    rows = [
        [f"{x:,}", *(_range(line.low[place], line.low[place]) for line in series.values())]
        for place, x in enumerate(first.x)
    ]
    return markdown([title, *series], rows, texts=0)


def sweep_table(sweeps: Mapping[str, Sweep]) -> str:
    """Return seconds and vCPU hours over the chunk size."""
    heads = ["chunksize", *(f"{name}: {part}" for name in sweeps for part in ("s", "s on Spot", "vCPU h"))]
    first = next(iter(sweeps.values()))
    rows = []
    for place, size in enumerate(first.chunksizes):
        cells = [f"{size:,}"]
        for sweep in sweeps.values():
            spot = sweep.spot_seconds[place]
            cells += [number(sweep.seconds[place]), "none" if spot is None else number(spot)]
            cells.append(number(sweep.vcpu_hours[place]))
        rows.append(cells)
    choice = ['`"auto"`']
    for sweep in sweeps.values():
        choice += [f"{number(sweep.automatic_seconds)} ({sweep.automatic:,})", "", number(sweep.automatic_vcpu_hours)]
    rows.append(choice)
    return markdown(heads, rows, texts=0)


def cold_table(starts: Iterable[ColdStart]) -> str:
    """Return time and cost of maps that find no machine."""
    heads = ["chunksize", "s", "vCPU h", "vCPUs at most"]
    rows = ([str(s.chunksize), number(s.seconds), number(s.vcpu_hours), str(s.most_vcpus)] for s in starts)
    return markdown(heads, rows, texts=0)


def spot_table(rows: Iterable[SpotRow]) -> str:
    """Return times, attempts and losses for each chunk size and rate of Spot losses."""
    cells = [
        [
            str(row.chunksize),
            row.losses,
            number(row.seconds),
            f"{row.attempts:,.0f}",
            f"{100 * row.lost_share:.2f} %",
            str(row.failed),
        ]
        for row in rows
    ]
    heads = ["chunksize", "losses of a machine", "s", "attempts", "seconds done twice", "failed children"]
    return markdown(heads, cells, texts=0)


def sensitivity_table(effects: Iterable[Effect]) -> str:
    """Return the three answers for each changed constant."""
    heads = ["constant", "factor", "1,024 children, warm", "64 children, cold", 'gain by `"auto"`']
    rows = [
        [
            f"`{effect.name}`" if effect.name else "the model",
            f"x {effect.factor:g}" if effect.name else "",
            f"{effect.slope:,.0f} s",
            f"{effect.cold:,.0f} s",
            f"x {effect.gain:.0f}",
        ]
        for effect in effects
    ]
    return markdown(heads, rows)


def number(value: float) -> str:
    """Return a number with three significant digits, or all digits of a large one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "none"
    return number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"


def published_points() -> int:
    """Return the number of points that the paper published."""
    return sum(len(line) for figure in (paper.FIGURE_2, paper.FIGURE_3) for line in figure.values())
