"""Measure the time of imports: ``python -m tests.benchmarks.import_time``.

Each statement runs in a fresh interpreter. The statements take turns, so that a busy machine slows all of them alike.
``--cpu`` measures processor time, which hardly depends on other processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from tests.benchmarks.side_by_side import side_by_side

ROUNDS = 15
STANDARD = "import concurrent.futures"
PACKAGE = "import cloudknot"
STATEMENTS = (
    "pass",
    STANDARD,
    *(["import requests"] if find_spec("requests") else []),
    *(["import boto3"] if find_spec("boto3") else []),
    PACKAGE,
    "import cloudknot; cloudknot.set_region",
    "import cloudknot; cloudknot.Knot",
)
GOAL = 25.0
"""Most milliseconds of ``import cloudknot`` beyond those of ``import concurrent.futures``."""


def python(code: str, environment: Mapping[str, str]) -> Callable[[], object]:
    """Return a function that runs code in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@contextmanager
def compiled() -> Iterator[dict[str, str]]:
    """Yield an environment in which Python stores compiled modules, as it does for users, in a temporary folder."""
    without = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**without, "PYTHONPYCACHEPREFIX": folder}
        for statement in STATEMENTS:
            python(statement, environment)()
        yield environment


def modules_loaded(code: str) -> list[str]:
    """Return the names of the modules that Python imports for its start and a statement."""
    run = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    return [line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")][1:]


def processor_time() -> float:
    """Return the processor seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_import(rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter) -> None:
    """Measure the statements of `STATEMENTS`, and print their times and numbers of modules."""
    with compiled() as environment:
        contestants = {statement: python(statement, environment) for statement in STATEMENTS}
        medians = side_by_side("importing, in a fresh interpreter", 1e-3, contestants, rounds, clock)
    above = medians[PACKAGE] - medians[STANDARD]
    print(f"  {PACKAGE} takes {above:.1f} ms more than {STANDARD}; the goal is at most {GOAL:.0f}")
    print("\nmodules loaded, besides those of a bare interpreter")
    bare = set(modules_loaded("pass"))
    for statement in STATEMENTS[1:]:
        loaded = [name for name in modules_loaded(statement) if name not in bare]
        ours = [name for name in loaded if name.partition(".")[0] == "cloudknot"]
        print(f"  {statement:48} {len(loaded):5}, of cloudknot {len(ours):4}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cpu", action="store_true", help="measure processor time instead of elapsed time")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    measure_import(arguments.rounds, processor_time if arguments.cpu else time.perf_counter)


if __name__ == "__main__":
    main()
