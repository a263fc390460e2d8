"""Run every kind of map under each fault, and print the numbers of faults and of results.

``python -m tests.benchmarks.faults`` prints, for each fault, the number of faults injected, results checked, results
lost, elements that hung, and calls for elements that had succeeded before. ``--only WORD`` selects faults by a word.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudknot as ck
from tests.faults.matrix import kinds, trials
from tests.faulty_cloud.cloud import FaultyCloud
from tests.faulty_cloud.switches import FaultSwitches


def knot_of(func: Callable[..., Any], cloud: ck.Cloud) -> ck.Knot:
    """Return a knot with enough attempts to survive the faults."""
    return ck.Knot(name=f"faults-{func.__name__.replace('_', '-')}", func=func, cloud=cloud, retries=trials.RETRIES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    parser.add_argument("--only", default="", help="run only trials with this word in their name")
    arguments = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch, FaultyCloud(arguments.directory or scratch, vcpus=4) as cloud:
        place = kinds.Place(knot_of(kinds.work, cloud), knot_of(kinds.needs_a_file, cloud), Path(scratch))
        for trial in (trial for trial in trials.TRIALS if arguments.only in trial.name):
            outcomes.append(trials.run(trial, kinds.KINDS, place, FaultSwitches(cloud)))
            print(f"{outcomes[-1].name}: {outcomes[-1].injected}", *outcomes[-1].lost, sep="\n  ", file=sys.stderr)
    print(trials.table(outcomes))
    return 1 if any(outcome.lost for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
