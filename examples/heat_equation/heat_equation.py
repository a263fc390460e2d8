"""Measure how long a map takes: by the number of its arguments, and by the work that each argument makes.

An argument is a plate with one hot side. A job solves the steady state of one or several plates, see solver.py.

On this machine, without an AWS account:  CLOUDKNOT_CLOUD=local python heat_equation.py
On AWS:                                   python heat_equation.py

The times go to arguments.json and grid.json. plot.py draws them, also again later: python plot.py
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from solver import check, timed_solve

import cloudknot as ck

HERE = Path(__file__).parent
SMALL = 10
"""Points on a side of the grid in the sweep over the number of arguments."""
TEMPERATURES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Degrees Celsius of the hot side in the sweep over the grid size."""
LOOP = 0
"""The chunk size that stands for a loop in this session, without cloudknot."""

Plate = tuple[int, float]
"""Points on a side, and degrees Celsius of the hot side: the arguments of `timed_solve`."""


@dataclass(frozen=True)
class Plan:
    """The points of both sweeps."""

    n_args: dict[int, tuple[int, ...]]
    """Numbers of arguments for each chunk size."""
    sizes: tuple[int, ...]
    repeats: int
    """Turns in which all points are measured."""


FULL = Plan(
    n_args={1: (1, 4, 16, 64, 256), 128: (256, 1024, 4096), LOOP: (1, 4, 16, 64, 256, 1024)},
    sizes=(10, 20, 40, 80, 120, 160),
    repeats=3,
)
QUICK = Plan(n_args={1: (1, 4), 8: (16,), LOOP: (1, 4, 16)}, sizes=(10, 20), repeats=1)


@dataclass(frozen=True)
class Timing:
    """One measured map."""

    chunksize: int
    n_args: int
    size: int
    seconds: float
    """From the call of `map` until this session has all results."""
    cpu_seconds: tuple[float, ...]
    """CPU time of each solution in its job, in input order; in the sweep over arguments, of all solutions together."""


def sweep_arguments(knot: ck.Knot, plan: Plan) -> Iterator[Timing]:
    """Time maps of many plates on a small grid. Their temperatures are evenly spaced up to 100 degrees."""
    for _ in range(plan.repeats):
        for chunksize, numbers in plan.n_args.items():
            for number in numbers:
                temperatures = 100 * np.arange(1, number + 1) / number
                timing = measure(knot, chunksize, [(SMALL, float(hot)) for hot in temperatures])
                yield replace(timing, cpu_seconds=(round(sum(timing.cpu_seconds), 4),))


def sweep_grid(knot: ck.Knot, plan: Plan) -> Iterator[Timing]:
    """Time maps over the five temperatures, on finer and finer grids."""
    for _ in range(plan.repeats):
        for size in plan.sizes:
            yield measure(knot, 1, [(size, hot) for hot in TEMPERATURES])


SWEEPS = {"arguments": sweep_arguments, "grid": sweep_grid}


def measure(knot: ck.Knot, chunksize: int, plates: Sequence[Plate]) -> Timing:
    """Solve all plates, check the results, and return the times."""
    start = time.perf_counter()
    if chunksize == LOOP:
        results = [timed_solve(*plate) for plate in plates]
    else:
        results = knot.map(plates, starmap=True, chunksize=chunksize).result()
    seconds = time.perf_counter() - start
    for (_, hot), (steady_state, _) in zip(plates, results, strict=True):
        check(steady_state, hot)
    cpu_seconds = tuple(round(cpu, 5) for _, cpu in results)
    return Timing(chunksize, len(plates), plates[0][0], round(seconds, 4), cpu_seconds)


def describe_run(cloud: ck.Cloud, repeats: int) -> dict[str, str | int | float]:
    """Return facts for the figures. The load shows how many other processes kept the machine busy before the run."""
    return {
        "date": date.today().isoformat(),
        "cloud": "embedded cloud" if isinstance(cloud, ck.LocalCloud) else "AWS Batch",
        "cores": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, numpy {np.__version__}, cloudknot {ck.__version__}",
        "repeats": repeats,
    }


def run(sweeps: Sequence[str], plan: Plan, output: Path) -> None:
    """Measure the sweeps, and write the times of each to its own file."""
    start = time.perf_counter()
    knot = ck.Knot(name="heat-equation", func=timed_solve)
    print(f"The knot was ready after {time.perf_counter() - start:.1f} s.")
    facts = describe_run(knot.cloud, plan.repeats)
    measure(knot, 1, [(SMALL, 100.0)])  # On AWS, this starts the first machine.
    for name in sweeps:
        timings = []
        for timing in SWEEPS[name](knot, plan):
            timings.append(timing)
            print(describe(timing), flush=True)
        document = {"run": facts, "timings": [asdict(timing) for timing in timings]}
        if name == "grid":
            document["temperatures"] = TEMPERATURES
        (output / f"{name}.json").write_text(json.dumps(document) + "\n", encoding="utf-8")


def describe(timing: Timing) -> str:
    way = f"{timing.chunksize} in each job" if timing.chunksize != LOOP else "in a loop"
    plates = f"{timing.n_args:4} plate{'s' if timing.n_args > 1 else ''} of {timing.size} x {timing.size} points"
    return f"{plates}, {way}: {timing.seconds:.2f} s; CPU time of the solutions: {sum(timing.cpu_seconds):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", choices=[*SWEEPS, "both"], default="both")
    parser.add_argument("--quick", action="store_true", help="a few small maps, to see that everything works")
    parser.add_argument("--repeats", type=int, help="turns in which all points are measured")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for times and figures")
    parser.add_argument("--no-figures", action="store_true", help="measure only; needs no matplotlib")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    options.output.mkdir(parents=True, exist_ok=True)
    plan = replace(plan, repeats=options.repeats or plan.repeats)
    run(list(SWEEPS) if options.sweep == "both" else [options.sweep], plan, options.output)
    if not options.no_figures:
        import plot

        plot.draw_all(options.output)


if __name__ == "__main__":
    main()
