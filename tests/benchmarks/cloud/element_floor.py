"""The least that a process of its own costs: a program for `element_cost --floor`, run by the Python of an image.

    python element_floor.py <image> <bucket> <prefix of keys> <count> <process of the server>

The program loads what the fork server of the image has loaded, and prints a JSON object: CPU milliseconds for each
repetition by way and kind of process, and page faults of the child.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def server_seconds(server: int) -> float:
    """Return the CPU seconds of the server (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{server}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICK


def own_seconds(who: int) -> float:
    """Return the CPU seconds of this process or of its ended children."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measured(count: int, server: int, work: Callable[[int], None]) -> dict[str, float]:
    """Call ``work`` several times. Return the costs of one call."""

    def state() -> tuple[float, float, float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        parts = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        return (*(1e3 * own_seconds(part) for part in parts), 1e3 * server_seconds(server), children.ru_minflt)

    before = state()
    for number in range(count):
        work(number)
    names = ("parent", "child", "server", "faults")
    return {name: (end - start) / count for name, start, end in zip(names, before, state(), strict=True)}


def main() -> None:
    image, bucket, prefix = sys.argv[1:4]
    count, server = map(int, sys.argv[4:])
    sys.path.insert(0, image)
    from cloudknot_worker import __main__ as worker  # type: ignore[import-not-found]
    from cloudknot_worker.s3.client import connect  # type: ignore[import-not-found]

    worker.warm()
    worker.warm_further()
    s3 = connect()
    # The account of the bucket. Without it, the first request would ask STS.
    s3.owners.name(bucket, "123456789012")
    library = ctypes.PyDLL(None)
    gc.collect()
    gc.freeze()

    def store(number: int, name: str) -> None:
        assert s3.write(bucket, f"{prefix}/{name}-{number}", (b"x" * 150,))

    def in_fork(fork: Callable[[], int], work: Callable[[int], object]) -> Callable[[int], None]:
        def call(number: int) -> None:
            pid = fork()
            if pid == 0:
                work(number)
                os._exit(0)
            assert os.waitpid(pid, 0) == (pid, 0)

        return call

    ways: dict[str, Callable[[int], None]] = {
        "fork and exit, by the C library": in_fork(library.fork, lambda number: None),
        "fork and exit, by Python": in_fork(os.fork, lambda number: None),
        "fork, store a result, exit": in_fork(os.fork, lambda number: store(number, "fork")),
        "store a result": lambda number: store(number, "stored"),
        "read a result": lambda number: s3.read(bucket, f"{prefix}/stored-{number}") and None,
    }
    print(json.dumps({name: measured(count, server, work) for name, work in ways.items()}))


if __name__ == "__main__":
    main()
