"""Measure imports, maps and a second Knot, and print medians and ratios to a baseline: ``make bench-imports``.

The machine is noisy, so baseline and measurement take turns. Only their ratio counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cloudknot as ck
from tests.benchmarks.import_time import measure_import
from tests.benchmarks.side_by_side import side_by_side
from tests.helpers.functions import square

ROUNDS = 5
ELEMENTS = 1000


def measure_map(cloud: ck.LocalCloud, rounds: int) -> None:
    """Measure maps beside a process pool, and a second Knot without changes."""
    start = time.perf_counter()
    knot = ck.Knot(name="benchmark", func=square, cloud=cloud)
    print(f"\nthe first Knot, with its image and stacks: {time.perf_counter() - start:.2f} s")
    expected = [x * x for x in range(ELEMENTS)]

    def map_once(chunksize: int) -> None:
        assert knot.map(range(ELEMENTS), chunksize=chunksize).result(600) == expected

    def map_in_pool() -> None:
        with ProcessPoolExecutor(2) as executor:
            assert list(executor.map(square, range(ELEMENTS))) == expected

    # The first map warms the cloud up, so it is not measured.
    map_once(250)
    side_by_side(
        f"{ELEMENTS} elements of x * x, for each element",
        1e-3 * ELEMENTS,
        {
            "ProcessPoolExecutor(2)": map_in_pool,
            "map, 4 chunks": lambda: map_once(ELEMENTS // 4),
            "map, one process per element": lambda: map_once(1),
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
    measure_import(3 * arguments.rounds)
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch) as cloud:
        measure_map(cloud, arguments.rounds)


if __name__ == "__main__":
    main()
