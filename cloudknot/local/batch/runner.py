"""What runs the attempts of jobs: the seam between the Batch engine and processes, containers, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cloudknot.local.batch.records import Event, Task

Report = Callable[[Event], None]
"""Takes one `Started` and one `Exited` for each task, or just the `Exited`. Safe to call from any thread."""


class Runner(Protocol):
    """Runs tasks. No method waits for a task."""

    def start(self, task: Task, report: Report) -> None:
        """Have a task run. ``report`` is called from another thread, never from within `start`."""
        ...

    def stop(self, task_id: str, *, kill: bool) -> None:
        """Send SIGTERM, or SIGKILL, to all processes of a task. Nothing happens when it has ended."""
        ...

    def close(self) -> None:
        """Kill every task, report nothing more, and free what the runner holds."""
        ...
