"""The process that an element runs in: the evidence for a fresh process for each element."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def function(x):
    """Return the process's id, its start in clock ticks after boot, its parent, Python's version and threads."""
    # The second field is the program's name, in parentheses. It may contain spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    return os.getpid(), int(fields[19]), os.getppid(), sys.version.split()[0], threads


def elements(count: int) -> Sequence[int]:
    return range(count)


def small() -> int:
    return 0


def digest(results: Sequence[tuple[int, int, int, str, str]]) -> str:
    """Return the values that must be the same for all contestants."""
    return repr((len(results), sorted({result[3:] for result in results})))
