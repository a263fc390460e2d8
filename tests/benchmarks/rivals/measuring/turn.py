"""One contestant's turn, in a process of its own in the contestant's environment.

The supervisor writes the turn as one line of JSON on standard input, and reads events from standard output. After the
events "ready", "begin" and "end", this process waits for a line, while the supervisor measures the process tree.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tests.benchmarks.rivals.contestants import Contestant, contestant_class
from tests.benchmarks.rivals.workloads import Workload, load

WARM_UP = 4
"""Small elements of the first map of each function. It ends the start-up: workers start and import with it."""


def peak_memory(pids: Sequence[int]) -> int:
    """Return the largest resident sizes that these processes have had, added up, in bytes."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(1024 * int(match[1]) for text in statuses if (match := re.search(r"VmHWM:\s+(\d+) kB", text)))


class Supervisor:
    """The other end of the pipes."""

    def __init__(self, replies: TextIO, events: TextIO) -> None:
        self._replies, self._events = replies, events

    def report(self, event: str, **values: Any) -> None:
        """Write an event, and wait until the supervisor has measured."""
        self._events.write(json.dumps({"event": event, **values}) + "\n")
        self._events.flush()
        self._replies.readline()


def run(turn: Mapping[str, Any], began: float, supervisor: Supervisor) -> None:
    """Start the contestant, do the work of the turn, and report."""
    workloads = {job["workload"]: load(job["workload"]) for job in turn["jobs"]}
    functions = [workload.function for workload in workloads.values()]
    contestant = contestant_class(turn["contestant"])(turn["workers"], turn["way"], functions)
    try:
        for workload in workloads.values():
            contestant.map(workload.function, [workload.small] * WARM_UP, turn["way"])
        supervisor.report("ready", seconds=time.time() - began)
        for job in turn["jobs"]:
            work(contestant, workloads[job["workload"]], job, supervisor)
    finally:
        contestant.stop()


def work(contestant: Contestant, workload: Workload, job: Mapping[str, Any], supervisor: Supervisor) -> None:
    """Do one piece of work, and report its wall time, the client's memory and the digest of its results."""
    elements = [workload.small] * job["count"] if job["small"] else workload.elements(job["count"])
    supervisor.report("begin")
    start = time.perf_counter()
    results = contestant.map(workload.function, elements, job["way"])
    seconds = time.perf_counter() - start
    memory = peak_memory(contestant.client_processes())
    processes = results if job["workload"] == "process" else []
    supervisor.report(
        "end", seconds=seconds, client_memory=memory, digest=workload.digest(results), processes=processes
    )


def main() -> None:
    # Not at the top: a pool that starts interpreters imports this module in each of them.
    from importlib.metadata import distributions

    began = float(sys.argv[1])
    # Libraries print to standard output. Only the copy of it carries events.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    supervisor = Supervisor(sys.stdin, events)
    turn = json.loads(sys.stdin.readline())
    run(turn, began, supervisor)
    calls = dict(contestant_class(turn["contestant"]).calls)
    versions = {found.name: found.version for found in distributions()}
    supervisor.report("done", versions=versions, python=sys.version.split()[0], calls=calls)


if __name__ == "__main__":
    main()
