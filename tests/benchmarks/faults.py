"""Run the maps of the fault tests under each fault, and print how many were injected, checked and lost.

``python -m tests.benchmarks.faults``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cloudknot as ck
from cloudknot.local import FaultSwitches
from tests.faults import trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    arguments = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch, vcpus=4) as cloud:
        knot = ck.Knot(name="faults", func=trials.work, cloud=cloud, retries=trials.RETRIES)
        for trial in trials.TRIALS:
            outcomes.append(trials.run(trial, knot, FaultSwitches(cloud)))
            print(f"{outcomes[-1].name}: {outcomes[-1].injected}", file=sys.stderr)
    print(trials.table(outcomes))
    return 1 if any(outcome.lost for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
