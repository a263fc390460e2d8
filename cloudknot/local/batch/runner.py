"""The interface between the Batch engine and the runners, which execute attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cloudknot.local.batch.records import Event, Task

Report = Callable[[Event], None]
"""The receiver of a task's events: first `Started`, then `Exited`, or only `Exited` if the task could not start.

It can be called from any thread.
"""


class Runner(Protocol):
    """A way to execute tasks. `start` and `stop` return without waiting for a task."""

    # The Batch API calls start and stop with its lock held, and report takes the same lock.
    def start(self, task: Task, report: Report) -> None:
        """Start a task. ``report`` is called from another thread, never from within `start`."""
        ...

    def stop(self, task_id: str, *, kill: bool) -> None:
        """Send SIGTERM, or SIGKILL, to all processes of a task. Does nothing if the task has ended."""
        ...

    def close(self) -> None:
        """Kill all tasks, report no more events, and release all resources."""
        ...
