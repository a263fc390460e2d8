"""Measure the session of a user: peak memory after each step, processor time, and requests.

    python -m tests.benchmarks.client_memory
    python -m tests.benchmarks.client_memory --elements 1000000 --maps 7

Three sessions run after each other on one embedded cloud, each in a process of its own. The first creates a knot, and
the second finds it unchanged. The third is a bare program that makes the same clients with boto3. The first two import
the libraries group by group, which shows the memory of each.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.memory import peak

LIBRARIES = (
    ("TLS and HTTP", ("ssl", "http.client", "urllib3")),
    ("botocore", ("botocore.session", "botocore.endpoint_provider")),
    ("other modules of Python", ("pickle", "hashlib", "inspect", "ast", "json", "importlib.metadata", "email.parser")),
    ("cloudpickle, packaging", ("cloudpickle", "packaging.requirements")),
    ("modules of cloudknot", ("cloudknot.knot", "cloudknot.local.session.cloud")),
)
"""The imports of a session that creates a Knot and maps with it, by groups."""
SERVICES = ("cloudformation", "ecr", "s3", "iam", "batch")
"""The services that a session with an unchanged knot calls."""
MB = 1e6
LONG = 3600
GROWTH = 0.25
"""Most memory that further maps may add, as a share of the first one, if each is dropped before the next."""


class Steps:
    """The steps of this process. Each prints the peak so far, its own part of it, and its time and processor time."""

    def __init__(self) -> None:
        self._peak, self._time, self._cpu = 0, time.perf_counter(), 0.0

    def done(self, name: str) -> int:
        """Print a step that has just ended, and return the peak."""
        now, cpu, highest = time.perf_counter(), time.process_time(), peak()
        own = (highest - self._peak) / MB
        print(f"  {name:34} {highest / MB:7.1f} MB {own:+7.1f} {now - self._time:8.2f} s {cpu - self._cpu:6.2f} s CPU")
        self._peak, self._time, self._cpu = highest, now, cpu
        return highest


def add_one(number):
    return number + 1


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def session(directory: Path, count: int, maps: int) -> None:
    """Create or find a knot, and map with it."""
    steps = Steps()
    steps.done("interpreter")
    for name, modules in LIBRARIES:
        for module in modules:
            importlib.import_module(module)
        steps.done(name)
    import cloudknot as ck

    knot = ck.Knot(name="client-memory", func=add_one, cloud=ck.LocalCloud(directory))
    steps.done("Knot()")
    highest = []
    for number in range(1, maps + 1):
        future = knot.map(numbers(count), progress=False)
        steps.done(f"map {number} of {count:,} elements")
        assert sum(future.result(LONG)) == count * (count + 1) // 2
        highest.append(steps.done("its list of results"))
        # A user who needs the results no longer. Nothing else may keep them.
        del future
    assert highest[-1] - highest[0] <= GROWTH * highest[0], f"the results of dropped maps stay in memory: {highest}"


def bare_clients() -> None:
    """Make the clients of a session with boto3 alone."""
    steps = Steps()
    steps.done("interpreter")
    import boto3

    steps.done("boto3")
    bare = boto3.Session("key", "secret", region_name="us-east-1")
    clients = [bare.client(service, endpoint_url="http://127.0.0.1:9") for service in SERVICES]
    steps.done(f"{len(clients)} clients")


def measure(directory: Path, arguments: Sequence[str]) -> None:
    """Run the sessions on a cloud of their own, and print the requests of each."""
    import cloudknot as ck
    from tests.benchmarks.scale import counts, show, since

    command = [sys.executable, "-m", "tests.benchmarks.client_memory", *arguments]
    with ck.LocalCloud(directory) as cloud:
        for title in ("a session that creates a knot", "a session with an unchanged knot"):
            print(f"\n{title}")
            before = counts(cloud, "others")
            subprocess.run([*command, "--session", str(directory)], check=True)
            show("requests:", since(before, counts(cloud, "others")))
    print("\na program that makes the clients of such a session with boto3")
    subprocess.run([*command, "--bare"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=100_000)
    parser.add_argument("--maps", type=int, default=2, help="number of maps in each session")
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    parser.add_argument("--session", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Progress is printed by several processes, in order.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.pop("CLOUDKNOT_CLOUD", None)
    if arguments.bare:
        bare_clients()
    elif arguments.session:
        session(arguments.session, arguments.elements, arguments.maps)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            chosen = ["--elements", str(arguments.elements), "--maps", str(arguments.maps)]
            measure(arguments.directory or Path(scratch), chosen)


if __name__ == "__main__":
    main()
