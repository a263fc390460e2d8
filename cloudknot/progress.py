"""One line that tells how a map gets on, kept up to date by what the collector sees anyway.

On a terminal it is a bar of rich's, in a notebook a line below the cell, elsewhere one line at the end. What the user
prints is left alone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

VARIABLE = "CLOUDKNOT_PROGRESS"
STATES = (
    ("RUNNING", "running"),
    ("STARTING", "starting"),
    ("RUNNABLE", "waiting"),
    ("PENDING", "pending"),
    ("SUBMITTED", "submitted"),
)
"""What Batch's states of live jobs are called here. Those that are pending wait for other jobs."""
WINDOW = 60.0
"""Seconds over which the rate is measured."""
NAME_WIDTH = 24
"""Characters of a name that are shown on a terminal."""


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


class Progress(Protocol):
    """Who shows how a map gets on; `ProgressLine` does."""

    def show(self, done: int, failed: int, states: Mapping[str, int]) -> None:
        """Show how many elements have a result or none, and how many children are in which state."""

    def say(self, text: str) -> None:
        """Show a sentence that stays."""

    def stop(self) -> None:
        """Show no more."""


class Line(Protocol):
    """Where a text is shown, each in place of the one before."""

    def update(self, done: int, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class ProgressLine:
    """How a map of ``count`` elements gets on, on a `Line`."""

    def __init__(self, count: int, line: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._line, self._clock = count, line, clock
        self._samples: deque[tuple[float, int]] = deque()

    def show(self, done: int, failed: int, states: Mapping[str, int]) -> None:
        """Show how many elements have a result or none, and how many children are in which state."""
        ended = done + failed
        parts = [f"{ended:,}/{self._count:,}", describe(failed, states, self._count), self._speed(ended)]
        self._line.update(ended, ", ".join(filter(None, parts)))

    def _speed(self, ended: int) -> str:
        """The rate and the time left, while there is a rate to tell and something left."""
        now, samples = self._clock(), self._samples
        samples.append((now, ended))
        while len(samples) > 2 and samples[0][0] < now - WINDOW:
            samples.popleft()
        passed, number = now - samples[0][0], ended - samples[0][1]
        if ended >= self._count or number <= 0 or passed <= 0:
            return ""
        return f"{per_time(number / passed)}, {clock_time((self._count - ended) * passed / number)} left"

    def say(self, text: str) -> None:
        """Show a sentence that stays."""
        self._line.say(text)

    def stop(self) -> None:
        """Leave the line as it is."""
        self._line.close()


def describe(failed: int, states: Mapping[str, int], count: int) -> str:
    """``1 failed, 2 running, 6 waiting``, leaving out what there is none of.

    Where a child has several elements, the states are said to be those of jobs.
    """
    live = [f"{states[state]:,} {what}" for state, what in STATES if states.get(state)]
    if live and sum(states.values()) != count:
        live[0] = f"jobs: {live[0]}"
    return ", ".join([*([f"{failed:,} failed"] if failed else []), *live])


def per_time(rate: float) -> str:
    """A rate in the largest unit that does not make it small: ``35/s``, ``12/min``, ``3/h``."""
    for seconds, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * seconds >= 1 or unit == "h":
            break
    return f"{rate * seconds:.{0 if rate * seconds >= 10 else 1}f}/{unit}"


def clock_time(seconds: float) -> str:
    """``2:45``, or ``1:02:45``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _NotebookLine:
    """A line of text below the cell, without widgets and without touching the cell's own output."""

    def __init__(self, name: str) -> None:
        self._name, self._text, self._said = name, "", list[str]()
        self._handle: Any = None

    def say(self, text: str) -> None:
        """Have the sentence below the line."""
        self._said.append(text)

    def update(self, done: int, text: str) -> None:
        from IPython import display

        text = "\n".join([text, *self._said])
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

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

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

    def say(self, text: str) -> None:
        _BARS.say(text)

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

    def say(self, text: str) -> None:
        """Print above the bars."""
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False)
            else:
                print(text, file=sys.stderr, flush=True)

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
    from rich.table import Column

    # In a narrow terminal the end of the text is left out; a line that wraps could not be drawn anew.
    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=NAME_WIDTH))
    text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    # What the user prints on the same terminal goes above the bars. Elsewhere it goes to stdout as ever: rich would
    # send it to its own console, which is stderr. An interactive session has its own ways with stdout.
    same = sys.stdout.isatty() and not hasattr(sys, "ps1") and "IPython" not in sys.modules
    return Progress(
        *(name, BarColumn(bar_width=20), text, TimeElapsedColumn()),
        console=Console(stderr=True),
        redirect_stdout=same,
        redirect_stderr=False,
    )
