"""Measure the seconds from ``python script.py`` to the first result, with the start of the embedded cloud.

    python -m tests.benchmarks.cloud.first_result
    python -m tests.benchmarks.cloud.first_result --rounds 3 --only "new directory"

The packages of the job are installed before the measurement. In each round, the script runs once in a directory
whose cloud has stopped and whose knot exists, and once in a new directory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cloudknot as ck
from cloudknot.local.runners.images.environments import ENVIRONMENTS_VARIABLE
from tests.benchmarks.cloud.element_cost import accounts
from tests.benchmarks.import_time import processor_time

ROUNDS = 5
GOAL = 2.0
"""Most seconds from the start of the script to its first result."""
SCRIPT = """
import json, os, sys, time
marks = {"start of Python": time.time()}

import cloudknot as ck
from cloudknot.local.session import connection

def mark(name):
    marks[name] = time.time()

def square(x):
    return x * x

spawn = connection.launch
def launch_and_mark(*arguments):
    mark("work before the cloud's start")
    try:
        return spawn(*arguments)
    finally:
        mark("start of the cloud")
connection.launch = launch_and_mark

mark("import")
knot = ck.Knot(name="first", func=square, cloud="local")
mark("Knot: program, image, stacks")
future = knot.map([3], progress=False)
mark("submission")
assert future.result(600) == [9]
mark("job and its result")
json.dump(marks, open(sys.argv[1], "w"))
"""
STAGES = (
    "start of Python",
    "import",
    "work before the cloud's start",
    "start of the cloud",
    "Knot: program, image, stacks",
    "submission",
    "job and its result",
)


PROCESSES = ("CPU of the script", "CPU of the server", "CPU of ended jobs")


def run(script: Path, directory: Path) -> dict[str, float]:
    """Run the script once in a directory. Return the seconds of each stage."""
    marks_file = script.with_suffix(".json")
    environment = {
        **os.environ,
        "CLOUDKNOT_LOCAL_DIR": str(directory),
        "PYTHONPYCACHEPREFIX": f"{script.parent}/compiled",
    }
    # Compiled modules are part of a warm cache, as for every user.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = processor_time(), time.time()
    subprocess.run([sys.executable, script, marks_file], check=True, env=environment)
    marks = json.loads(marks_file.read_text(encoding="utf-8"))
    times = [begun, *(marks[name] for name in STAGES)]
    stages = {name: end - start for name, start, end in zip(STAGES, times, times[1:], strict=False)}
    status = ck.LocalCloud(directory).status()
    assert status is not None
    used = (processor_time() - before, *accounts(status.pid))
    return stages | dict(zip(PROCESSES, used, strict=True))


def measure(folder: Path, rounds: int, only: str | None) -> dict[str, list[dict[str, float]]]:
    """Run the script in turns in both kinds of directory. Return the stages of each round."""
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    used = folder / "used"
    results: dict[str, list[dict[str, float]]] = {"existing knot": [], "new directory": []}
    # Installs the packages, and makes the knot.
    run(script, used)
    for number in range(rounds):
        fresh = folder / f"new-{number}"
        for name, directory in (("existing knot", used), ("new directory", fresh)):
            if only not in (None, name):
                continue
            ck.LocalCloud(used).stop()
            results[name].append(run(script, directory))
            ck.LocalCloud(directory).stop()
        shutil.rmtree(fresh, ignore_errors=True)
    ck.LocalCloud(used).stop()
    return {name: times for name, times in results.items() if times}


def show(name: str, rounds: list[Mapping[str, float]]) -> None:
    """Print the median of each stage, and of the sum."""
    totals = [sum(one[stage] for stage in STAGES) for one in rounds]
    print(f"{name}: {statistics.median(totals):.2f} s ({min(totals):.2f} to {max(totals):.2f}), goal {GOAL} s")
    for stage in (*STAGES, *PROCESSES):
        times = [one[stage] for one in rounds]
        print(f"  {stage:32} {statistics.median(times):6.2f} s  ({min(times):.2f} to {max(times):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=("existing knot", "new directory"))
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        # Both kinds of directory share the installed packages, as two users' directories do not.
        os.environ.setdefault(ENVIRONMENTS_VARIABLE, f"{folder}/environments")
        for name, times in measure(Path(folder), arguments.rounds, arguments.only).items():
            show(name, list(times))


if __name__ == "__main__":
    main()
