"""Bars of rich's: their columns, and those on the terminal, which stand below each other."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

NARROW, WIDE = 60, 100
"""Characters of a line below which there is no bar, and from which on the bar and the name are long."""
NAME_WIDTH = 24
"""Characters of a name that are shown in a wide line."""


def at_prompt() -> bool:
    """Whether this is an interactive session, where a person types while nothing is waited for."""
    return hasattr(sys, "ps1")


class TerminalBar:
    """A bar on the terminal; the bars of maps that run at the same time stand below each other.

    In an interactive session it is there while somebody waits, so that it is not drawn over what is typed.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._task: TaskID | None = None
        self._told = ""
        self._paused = at_prompt()
        # The collector draws, and whoever interrupts a wait has it stop.
        self._lock = threading.RLock()

    def update(self, ended: int, text: str, why: str) -> None:
        with self._lock:
            if self._paused:
                return
            if self._task is None:
                self._task = _BARS.add(self._name, self._count)
            _BARS.update(self._task, ended, text)
            if why and why != self._told:
                self._told = why
                _BARS.say(why)

    def pause(self) -> None:
        """Leave the terminal to whoever types there."""
        with self._lock:
            self._paused = True
            self._end(erase=at_prompt())

    def resume(self) -> None:
        """Show the bar again, as soon as there is something new."""
        with self._lock:
            self._paused = False

    def close(self) -> None:
        self._end(erase=False)

    def _end(self, *, erase: bool) -> None:
        with self._lock:
            if self._task is not None:
                _BARS.close(self._task, erase=erase)
                self._task = None


class _Bars:
    """All bars of this process: rich can show only one block at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._open: set[TaskID] = set()

    def add(self, name: str, count: int) -> TaskID:
        with self._lock:
            if self._progress is None:
                self._progress = _new_progress()
                self._progress.start()
            task = self._progress.add_task(name, total=count, text="")
            self._open.add(task)
            return task

    def update(self, task: TaskID, ended: int, text: str) -> None:
        with self._lock:
            if self._progress is not None and task in self._open:
                self._progress.update(task, completed=ended, text=text)

    def say(self, text: str) -> None:
        """Print above the bars."""
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False)

    def close(self, task: TaskID, *, erase: bool) -> None:
        """Draw a bar no more; leave it as it is, or take it away."""
        with self._lock:
            if self._progress is None:
                return
            if erase:
                self._progress.remove_task(task)
            else:
                self._progress.stop_task(task)
            self._open.discard(task)
            if not self._open:
                self._progress.live.transient = not self._progress.tasks
                self._progress.stop()
                self._progress = None


_BARS = _Bars()


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # What the user prints on the same terminal goes above the bars. Elsewhere it goes to stdout as ever: rich would
    # send it to its own console, which is stderr. An interactive session has its own ways with stdout.
    same = sys.stdout.isatty() and not at_prompt() and "IPython" not in sys.modules
    columns = columns_of(console.width)
    return Progress(*columns, console=console, expand=True, redirect_stdout=same, redirect_stderr=False)


def columns_of(width: int) -> list[ProgressColumn]:
    """The columns of a line ``width`` characters wide: name, bar, text and time, in a narrow one name and text.

    The name, the bar and the time keep their widths; of the text the end is left out. A line that wraps could not be
    drawn anew.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    most = NAME_WIDTH if width >= WIDE else NAME_WIDTH // 2
    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=most))
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    text = TextColumn("{task.fields[text]}", markup=False, table_column=rest)
    if width < NARROW:
        return [name, text]
    return [name, BarColumn(bar_width=20 if width >= WIDE else 10), text, TimeElapsedColumn()]
