"""All measurements of a run, checked against the results of a serial loop."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.rivals.supervisor import Measurement, Outcome, Start

MB = 1e6


@dataclass(frozen=True)
class Spread:
    """The median of a cost over the rounds, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.most:.{digits}f})"


class WrongResult(Exception):
    """A contestant's results are not those of the serial loop."""


class Results:
    """The measurements of all turns."""

    def __init__(self) -> None:
        self.serial: dict[tuple[str, int], Measurement] = {}
        self.measurements: list[Measurement] = []
        self.starts: list[Start] = []
        self.versions: dict[str, Mapping[str, str]] = {}

    def expect(self, serial: Outcome) -> None:
        """Keep the results that all contestants must have."""
        self.serial = {(m.workload, m.count): m for m in serial.measurements}

    def add(self, outcome: Outcome) -> None:
        """Add the measurements of a turn, after a check of the results."""
        for measurement in outcome.measurements:
            expected = self.serial.get((measurement.workload, measurement.count))
            if expected and measurement.digest != expected.digest:
                raise WrongResult(f"{measurement} differs from {expected}")
        self.starts.append(outcome.start)
        self.measurements += outcome.measurements
        self.versions[outcome.start.contestant] = outcome.versions

    def grouped(self) -> dict[tuple[str, str, str, str, int], list[Measurement]]:
        """Return the measurements of all rounds by group, contestant, workload, way and number of elements."""
        groups: dict[tuple[str, str, str, str, int], list[Measurement]] = defaultdict(list)
        for m in self.measurements:
            groups[m.group, m.contestant, m.workload, m.way, m.count].append(m)
        return dict(groups)

    def spread(self, measured: list[Measurement], cost: Callable[[Measurement], float]) -> Spread:
        return Spread.of([cost(m) for m in measured])

    def show(self) -> None:
        """Print all medians."""
        for (group, contestant, workload, way, count), measured in sorted(
            self.grouped().items(), key=lambda item: (item[0][0], item[0][2:], item[0][1])
        ):
            wall = self.spread(measured, lambda m: m.seconds)
            cpu = self.spread(measured, lambda m: m.cpu_seconds)
            client = self.spread(measured, lambda m: m.client_memory / MB)
            tree = self.spread(measured, lambda m: m.tree_memory / MB)
            print(
                f"{group:8} {workload:8} {way:7} x {count:7,} {contestant:10} wall {wall.text()} s, "
                f"{1e3 * wall.median / count:8.3f} ms an element, CPU {cpu.text()} s, "
                f"client {client.median:4.0f} MB, tree {tree.median:5.0f} MB"
            )
