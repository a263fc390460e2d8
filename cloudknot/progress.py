"""One line that tells how a map gets on, kept up to date by what the collector sees anyway.

On a terminal it is a bar of rich's, in a notebook a line below the cell, elsewhere one line at the end. What the user
prints is left alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol

VARIABLE = "CLOUDKNOT_PROGRESS"
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


def wanted(choice: bool | None) -> bool:
    """Whether to show progress: the argument, else ``CLOUDKNOT_PROGRESS`` (0 or 1), else where a person looks on."""
    if choice is not None:
        return choice
    variable = os.environ.get(VARIABLE)
    if variable:
        return variable not in ("0", "false", "no")
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def progress_line(name: str, count: int, choice: bool | None) -> ProgressLine | None:
    """The line for a map of ``count`` elements, if it is `wanted`."""
    if not wanted(choice):
        return None
    if in_notebook():
        return ProgressLine(count, _NotebookLine(name))
    return ProgressLine(count, _Bar(name, count) if sys.stderr.isatty() else _LastLine(name))


class Line(Protocol):
    """Where a text is shown, each in place of the one before."""

    def update(self, done: int, text: str) -> None: ...
    def close(self) -> None: ...


class ProgressLine:
    """How a map of ``count`` elements gets on, on a `Line`."""

    def __init__(self, count: int, line: Line) -> None:
        self._count, self._line = count, line

    def show(self, done: int, failed: int, states: Mapping[str, int]) -> None:
        """Show how many elements have a result or none, and how many children are in which state."""
        ended = done + failed
        self._line.update(ended, ", ".join(filter(None, [f"{ended}/{self._count}", describe(failed, states)])))

    def stop(self) -> None:
        """Leave the line as it is."""
        self._line.close()


def describe(failed: int, states: Mapping[str, int]) -> str:
    """``2 running, 6 waiting, 1 failed``, leaving out what there is none of."""
    waiting = sum(states.get(state, 0) for state in WAITING)
    parts = ((states.get("RUNNING", 0), "running"), (waiting, "waiting"), (failed, "failed"))
    return ", ".join(f"{number} {what}" for number, what in parts if number)


class _NotebookLine:
    """A line of text below the cell, without widgets and without touching the cell's own output."""

    def __init__(self, name: str) -> None:
        self._name, self._text = name, ""
        self._handle: Any = None

    def update(self, done: int, text: str) -> None:
        from IPython import display

        if text == self._text:
            return
        self._text = text
        shown = {"text/plain": f"{self._name}: {text}"}
        if self._handle is None:
            self._handle = display.display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call,unused-ignore]
        else:
            self._handle.update(shown, raw=True)

    def close(self) -> None:
        """The last text stays."""


class _LastLine:
    """Only the last text, as one line on stderr."""

    def __init__(self, name: str) -> None:
        self._name, self._text = name, ""

    def update(self, done: int, text: str) -> None:
        self._text = text

    def close(self) -> None:
        if self._text:
            print(f"{self._name}: {self._text}", file=sys.stderr, flush=True)


class _Bar:
    """A bar on the terminal; the bars of maps that run at the same time stand below each other."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._task: Any = None

    def update(self, done: int, text: str) -> None:
        if self._task is None:
            self._task = _BARS.add(self._name, self._count)
        _BARS.update(self._task, done, text)

    def close(self) -> None:
        if self._task is not None:
            _BARS.close(self._task)
            self._task = None


class _Bars:
    """All bars of this process: rich can show only one block at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Any = None
        self._open: set[Any] = set()

    def add(self, name: str, count: int) -> Any:
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress()
                self._progress.start()
            task = self._progress.add_task(name, total=count, text="")
            self._open.add(task)
            return task

    def update(self, task: Any, done: int, text: str) -> None:
        with self._lock:
            if task in self._open:
                self._progress.update(task, completed=done, text=text)

    def close(self, task: Any) -> None:
        with self._lock:
            self._progress.stop_task(task)
            self._open.discard(task)
            if not self._open:
                self._progress.stop()
                self._progress = None


_BARS = _Bars()


def _new_progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    # What the user prints goes to stdout as ever: rich would send it to its own console, which is stderr.
    return Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False)
