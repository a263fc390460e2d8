"""Measure contestants in turn, and compare each with the first one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def side_by_side(
    title: str,
    unit: float,
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Run the contestants in turn, print each median and its ratio to the first one's, and return the medians."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = clock()
            contestant()
            times[name].append((clock() - start) / unit)
    medians = {name: statistics.median(durations) for name, durations in times.items()}
    base = next(iter(medians.values()))
    print(f"\n{title} (median of {rounds}, least to most)")
    for name, durations in times.items():
        median = medians[name]
        print(f"  {name:48} {median:9.3f} ms   {min(durations):9.3f} to {max(durations):9.3f}   x {median / base:.2f}")
    return medians
