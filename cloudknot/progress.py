"""One line that tells how a map gets on, kept up to date by what the collector sees anyway."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

VARIABLE = "CLOUDKNOT_PROGRESS"
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


def wanted(choice: bool | None) -> bool:
    """Whether to show progress: the argument, else ``CLOUDKNOT_PROGRESS`` (0 or 1), else where a person looks on."""
    if choice is not None:
        return choice
    variable = os.environ.get(VARIABLE)
    if variable:
        return variable not in ("0", "false", "no")
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress_line(name: str, count: int, choice: bool | None) -> ProgressLine | None:
    """The line for a map of ``count`` elements, if it is `wanted`."""
    return ProgressLine(name, count) if wanted(choice) else None


class ProgressLine:
    """Shows a map's progress on stderr; in a notebook, below the cell.

    Not on a terminal, one line is printed when the map ends.
    """

    def __init__(self, name: str, count: int) -> None:
        self._count, self._name = count, name
        self._bar: Progress | None = None
        self._task: Any = None

    def show(self, done: int, failed: int, states: Mapping[str, int]) -> None:
        """Show how many elements have a result or none, and how many children are in which state."""
        bar = self._bar or self._start()
        bar.update(self._task, completed=done + failed, detail=describe(failed, states))

    def stop(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn(self._name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self._name, total=self._count, detail="")
        self._bar.start()
        return self._bar


def describe(failed: int, states: Mapping[str, int]) -> str:
    """``2 running, 6 waiting, 1 failed``, leaving out what there is none of."""
    waiting = sum(states.get(state, 0) for state in WAITING)
    parts = ((states.get("RUNNING", 0), "running"), (waiting, "waiting"), (failed, "failed"))
    return ", ".join(f"{number} {what}" for number, what in parts if number)
