"""All measurements of a run, checked against the results of a serial loop, and their medians."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.rivals.measuring.supervisor import Measurement, Outcome, Start
from tests.benchmarks.rivals.plan import CONTESTANTS, ONLY_FRESH, PACKAGES, Sizes

LIBRARIES = frozenset(PACKAGES.values()) | {"boto3", "cloudpickle", "dipy", "moto", "numpy", "scikit-image", "scipy"}
"""The packages whose versions are kept."""


@dataclass(frozen=True)
class Spread:
    """The median of a cost over the rounds, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.least * factor, self.most * factor)


@dataclass(frozen=True)
class Machine:
    """The machine, and its load before the run: other programs make all times longer."""

    cores: int
    processor: str
    system: str
    python: str
    load: float
    date: str

    @classmethod
    def this(cls) -> Machine:
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        return cls(
            os.cpu_count() or 1,
            model[1] if model else platform.machine(),
            f"Linux {platform.release()}",
            platform.python_version(),
            os.getloadavg()[0],
            time.strftime("%Y-%m-%d", time.gmtime()),
        )


class WrongResult(Exception):
    """A contestant's results are not those of the serial loop."""


class Results:
    """The measurements of all turns."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.machine = sizes, Machine.this()
        self.serial: list[Measurement] = []
        self.measurements: list[Measurement] = []
        self.starts: list[Start] = []
        self.versions: dict[str, Mapping[str, str]] = {}
        self.calls: dict[str, Mapping[str, str]] = {}
        """The expressions of each contestant, by way."""

    def expect(self, serial: Outcome) -> None:
        """Keep the results that all contestants must have."""
        self.serial = list(serial.measurements)

    def add(self, outcome: Outcome) -> None:
        """Add the measurements of a turn, after a check of the results."""
        expected = {(m.workload, m.count): m.digest for m in self.serial}
        for measurement in outcome.measurements:
            right = expected.get((measurement.workload, measurement.count), measurement.digest)
            if measurement.digest != right:
                raise WrongResult(f"{measurement} must have the digest {right}")
        self.starts.append(outcome.start)
        self.measurements += outcome.measurements
        found = {name: version for name, version in outcome.end.versions.items() if name in {"Python", *LIBRARIES}}
        self.versions[outcome.start.contestant] = found
        self.calls[outcome.start.contestant] = outcome.end.calls

    @property
    def contestants(self) -> list[str]:
        """Return the contestants in their usual order."""
        return [name for name in CONTESTANTS if name in self.versions]

    @property
    def usual(self) -> list[str]:
        """Return the contestants without those that are measured with fresh processes only."""
        return [name for name in self.contestants if name not in ONLY_FRESH]

    def find(self, contestant: str, group: str, workload: str, way: str, count: int) -> list[Measurement]:
        """Return the measurements of one kind of work in all rounds. The list is empty if the contestant has none."""
        wanted = (contestant, group, workload, way, count)
        return [m for m in self.measurements if (m.contestant, m.group, m.workload, m.way, m.count) == wanted]

    def spread(self, cost: Callable[[Measurement], float | None], *work: Any) -> Spread | None:
        """Return the spread of a cost of the work that `find` finds, or None if it was not measured."""
        costs = [cost(m) for m in self.find(*work)]
        measured = [value for value in costs if value is not None]
        return Spread.of(measured) if measured and len(measured) == len(costs) else None

    def start(self, contestant: str, cost: Callable[[Start], float]) -> Spread | None:
        """Return the spread of a cost of the start-up, over the turns with one function, and the usual workers."""
        costs = [cost(s) for s in self.starts if s.contestant == contestant and s.group == "trivial"]
        return Spread.of(costs) if costs else None

    def write(self, path: Path) -> None:
        """Write all figures as JSON, one measurement a line."""
        parts = {
            "machine": [asdict(self.machine)],
            "sizes": [asdict(self.sizes)],
            "versions": [self.versions],
            "calls": [self.calls],
            "starts": [_rounded(asdict(start)) for start in self.starts],
            "serial": [_rounded(asdict(m)) for m in self.serial],
            "measurements": [_rounded(asdict(m)) for m in self.measurements],
        }
        lines = [f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in parts.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read figures that `write` wrote."""
        stored = json.loads(path.read_text())
        # Work that a later version added was not measured.
        results = cls(Sizes(**{**dict.fromkeys(Sizes.__dataclass_fields__, 0), **stored["sizes"][0]}))
        results.machine = Machine(**stored["machine"][0])
        results.versions, results.calls = stored["versions"][0], stored["calls"][0]
        results.starts = [Start(**start) for start in stored["starts"]]
        results.serial = [Measurement(**m) for m in stored["serial"]]
        results.measurements = [Measurement(**m) for m in stored["measurements"]]
        return results


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
