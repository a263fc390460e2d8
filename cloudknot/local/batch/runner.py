"""The interface between the Batch engine and the runners, which execute attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from cloudknot.local.batch.records import Event, Task

Report = Callable[[Event], None]
"""The receiver of a task's events: first `Started`, then `Exited`, or only `Exited` if the task could not start.

It can be called from any thread.
"""


class Runner(Protocol):
    """A way to execute tasks. `prepare`, `start` and `stop` return without waiting for a task."""

    def prepare(self, image: str, role: str | None, environment: Mapping[str, str]) -> None:
        """Do work ahead for tasks with these values, if that shortens their start. Such tasks may never come."""
        ...

    def release(self, image: str) -> None:
        """End processes that wait for tasks of an image, so that the image can be removed. May wait for their end."""
        ...

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
