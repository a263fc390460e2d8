"""Measure, side by side in one run, and print medians and ratios: ``make bench``.

The machine is noisy, so what counts is the ratio to the baseline that was measured in between.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cloudknot as ck

ROUNDS = 5
ELEMENTS = 1000


def square(x):
    return x * x


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def side_by_side(title: str, unit: float, contestants: dict[str, Callable[[], object]], rounds: int) -> None:
    """Run the contestants in turn, print each one's median and its ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            times[name].append(seconds(call) / unit)
    base = statistics.median(next(iter(times.values())))
    print(f"\n{title} (median of {rounds}, least to most)")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"  {name:48} {median:9.3f} ms   {min(taken):9.3f} to {max(taken):9.3f}   x {median / base:.2f}")


def python(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


def measure_import(rounds: int) -> None:
    side_by_side(
        "import, in a fresh interpreter",
        1e-3,
        {
            "import concurrent.futures": python("import concurrent.futures"),
            "import cloudknot": python("import cloudknot"),
        },
        4 * rounds,
    )


def measure_map(cloud: ck.LocalCloud, rounds: int) -> None:
    begun = time.perf_counter()
    knot = ck.Knot(name="benchmark", func=square, cloud=cloud)
    print(f"\nthe first Knot, with its image and stacks: {time.perf_counter() - begun:.2f} s")
    expected = [x * x for x in range(ELEMENTS)]

    def run(chunksize: int) -> None:
        assert knot.map(range(ELEMENTS), chunksize=chunksize).result(600) == expected

    def pool() -> None:
        with ProcessPoolExecutor(2) as executor:
            assert list(executor.map(square, range(ELEMENTS))) == expected

    run(250)
    side_by_side(
        f"{ELEMENTS} elements of x * x, for each element",
        1e-3 * ELEMENTS,
        {
            "ProcessPoolExecutor(2)": pool,
            "map, 4 chunks": lambda: run(ELEMENTS // 4),
            "map, one process per element": lambda: run(1),
        },
        rounds,
    )
    side_by_side(
        "Knot(...) again, nothing changed",
        1e-3,
        {"Knot(...)": lambda: ck.Knot(name="benchmark", func=square, cloud=cloud)},
        rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    measure_import(arguments.rounds)
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch) as cloud:
        measure_map(cloud, arguments.rounds)


if __name__ == "__main__":
    main()
