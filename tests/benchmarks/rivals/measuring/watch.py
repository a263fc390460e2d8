"""Measure the CPU time and the memory of a contestant's processes, from outside.

This process becomes the parent of orphans (PR_SET_CHILD_SUBREAPER). So servers that detach themselves from the
contestant stay in the tree, and are counted and ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import threading
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of all descendants that lose their own parent."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def tree() -> list[psutil.Process]:
    """Return all descendants of this process."""
    return psutil.Process().children(recursive=True)


def reap_orphans(own: int) -> None:
    """Collect the ends of adopted processes, so that their CPU time is counted. ``own`` is waited for elsewhere."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid != own and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, 0)


def cpu_seconds() -> float:
    """Return user and system time of all processes that this process has started, running or ended.

    Linux adds the times of an ended process to its parent's when the parent waits for it. So the times of the running
    processes and of their ended children are complete, with those of this process's ended children.
    """
    ended = psutil.Process().cpu_times()
    total = ended.children_user + ended.children_system
    for process in tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def unaccounted() -> set[int]:
    """Return the processes that will end without a trace in `cpu_seconds`, because their parent ignores SIGCHLD.

    Linux then drops their times. Ray's server is such a parent.
    """
    found = set()
    for process in tree():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            match = re.search(r"^SigIgn:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.M)
            if match and int(match[1], 16) >> (signal.SIGCHLD - 1) & 1:
                found |= {child.pid for child in process.children()}
    return found


def memory() -> int:
    """Return the proportional set sizes of all processes of the tree, added up: shared pages count once."""
    total = 0
    for process in tree():
        with contextlib.suppress(OSError):
            match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.M)
            total += 1024 * int(match[1]) if match else 0
    return total


class MemoryWatch:
    """The largest memory of the tree between `start` and `stop`, looked at once in an interval and at both ends."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._ended = threading.Event()
        self._largest = memory()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            self._largest = max(self._largest, memory())

    def stop(self) -> int:
        """Return the largest memory in bytes."""
        self._ended.set()
        self._thread.join()
        return max(self._largest, memory())


def end_tree() -> None:
    """Kill all processes that a turn has left, and those that they start meanwhile, and collect their ends."""
    while processes := tree():
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
