"""Measure the CPU time of one element by kind of process, and the requests that it makes.

    python -m tests.benchmarks.cloud.element_cost
    python -m tests.benchmarks.cloud.element_cost --chunksize 250 --rounds 5
    python -m tests.benchmarks.cloud.element_cost --elements 8 --pause 1
    python -m tests.benchmarks.cloud.element_cost --floor

CPU times come from the kernel's accounts of each process. Jobs are the ended children of the fork server. On a busy
machine CPU times vary less than the time on the clock.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cloudknot as ck
from cloudknot.worker.wire.keys import RUNS
from tests.benchmarks.scale import counts, since
from tests.helpers.functions import square

TICK = os.sysconf("SC_CLK_TCK")
KINDS = ("client", "server", "fork server", "jobs")


def accounts(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a process and of its ended children (proc(5), fields 14 to 17)."""
    # The name in parentheses may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / TICK, children / TICK


def fork_server_of(server: int) -> int:
    """Return the process of the only fork server."""
    tasks = Path(f"/proc/{server}/task").iterdir()
    children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    (fork_server,) = children
    return fork_server


def cpu_times(server: int) -> dict[str, float]:
    """Return the CPU seconds by kind of process."""
    fork_server, jobs = accounts(fork_server_of(server))
    used = os.times()
    return dict(zip(KINDS, (used.user + used.system, accounts(server)[0], fork_server, jobs), strict=True))


def square_after(pause: float, x: int) -> int:
    """Wait, so that two elements at a time cost no CPU, and all other time is cloudknot's."""
    time.sleep(pause)
    return square(x)


def measure(knot: ck.Knot, server: int, count: int, chunksize: int) -> dict[str, float]:
    """Run one map. Return the milliseconds for each element: CPU by kind of process, and on the clock."""
    before, start = cpu_times(server), time.perf_counter()
    assert knot.map(range(count), chunksize=chunksize, progress=False).result(600) == [x * x for x in range(count)]
    clock, after = time.perf_counter() - start, cpu_times(server)
    used = {kind: after[kind] - before[kind] for kind in KINDS}
    return {kind: 1e3 * seconds / count for kind, seconds in {**used, "clock": clock}.items()}


def show(rounds: list[dict[str, float]]) -> None:
    """Print the median and the range of each kind."""
    for kind in rounds[0]:
        times = [one[kind] for one in rounds]
        print(f"  {kind:12} {statistics.median(times):8.3f} ms   {min(times):.3f} to {max(times):.3f}")
    total = statistics.median(sum(one[kind] for kind in KINDS) for one in rounds)
    print(f"  {'CPU in all':12} {total:8.3f} ms")


def show_requests(requests: Mapping[str, Mapping[str, tuple[int, int, int]]], elements: int) -> None:
    """Print the requests for each element, by operation."""
    for side, operations in requests.items():
        for name, (number, _, _) in operations.items():
            print(f"  {side:12} {name:32} {number / elements:8.4f}")


def show_floor(cloud: ck.LocalCloud, knot: ck.Knot, server: int, count: int) -> None:
    """Print the least that a process with the memory of the fork server costs, and a stored result."""
    image = cloud.directory / "images" / knot.image_uri.rpartition(":")[2]
    variables = Path(f"/proc/{fork_server_of(server)}/environ").read_text(encoding="utf-8")
    environment = dict(variable.split("=", 1) for variable in variables.split("\0") if variable)
    program = [
        image / "environment" / "bin" / "python",
        "-I",
        "-X",
        "utf8",
        Path(__file__).with_name("element_floor.py"),
    ]
    place = [cloud.bucket, f"{RUNS}/{knot.name}/floor", str(count), str(server)]
    done = subprocess.run([*program, image, *place], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    print("CPU in ms, and page faults of the child")
    for way, costs in json.loads(done.stdout).items():
        print(f"  {way:34}", *(f"{name} {cost:7.2f}" for name, cost in costs.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=500)
    parser.add_argument("--chunksize", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0, help="seconds that an element sleeps")
    parser.add_argument("--directory", type=Path, help="keep the embedded cloud's environments here between runs")
    parser.add_argument("--floor", action="store_true", help="also measure bare forks and requests")
    arguments = parser.parse_args()
    function = functools.partial(square_after, arguments.pause) if arguments.pause else square
    with tempfile.TemporaryDirectory() as scratch, ck.LocalCloud(arguments.directory or scratch, vcpus=2) as cloud:
        knot = ck.Knot(name="element-cost", func=function, cloud=cloud)
        status = cloud.status()
        assert status is not None
        # The first map launches the fork server and warms the cloud up.
        knot.map(range(20), progress=False).result(600)
        before = {side: counts(cloud, side) for side in ("workers", "others")}
        rounds = [measure(knot, status.pid, arguments.elements, arguments.chunksize) for _ in range(arguments.rounds)]
        print(f"{arguments.elements} elements, chunksize {arguments.chunksize}, for each element")
        show(rounds)
        print("requests for each element")
        requests = {side: since(before[side], counts(cloud, side)) for side in before}
        show_requests(requests, arguments.elements * arguments.rounds)
        if arguments.floor:
            show_floor(cloud, knot, status.pid, arguments.elements)


if __name__ == "__main__":
    main()
