"""Progress bars on a terminal, and the columns of all bars. rich draws them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from cloudknot.aws.sdk import forks
from cloudknot.options import streams

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

NARROW, WIDE = 60, 100
"""Widths in characters. A narrower line than the first has no bar. From the second on, bar and name are long."""
NAME_WIDTH = 24
"""Characters of the name in a wide line."""


def at_prompt() -> bool:
    """Return whether this session has a prompt, where the user types while nothing waits."""
    return hasattr(sys, "ps1")


class TerminalBar:
    """The progress bar of one map on the terminal. Bars of concurrent maps appear below each other.

    In an interactive session, the bar appears only while a call waits for results.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._task: TaskID | None = None
        self._shown_reason = ""
        # At a prompt, a bar would be drawn over the line that the user types, with the cursor hidden.
        self._paused = at_prompt()
        # The collector's thread draws the bar, and the thread of an interrupted wait pauses it.
        self._lock = threading.RLock()

    def update(self, ended: int, text: str, reason: str) -> None:
        """Show the text and the number of ended elements, and once each new reason for waiting jobs."""
        with self._lock:
            if self._paused:
                return
            if self._task is None:
                self._task = _BARS.add(self._name, self._count)
            _BARS.update(self._task, ended, text)
            if reason and reason != self._shown_reason:
                self._shown_reason = reason
                _BARS.print(reason)

    def pause(self) -> None:
        """Stop drawing, so the user can type. At a prompt, also erase the bar."""
        with self._lock:
            self._paused = True
            self._end(erase=at_prompt())

    def resume(self) -> None:
        """Show the bar again, from the next update on."""
        with self._lock:
            self._paused = False

    def close(self) -> None:
        """Leave the bar as it is."""
        self._end(erase=False)

    def _end(self, *, erase: bool) -> None:
        with self._lock:
            if self._task is not None:
                _BARS.close(self._task, erase=erase)
                self._task = None


class _Bars:
    """All bars of this process. rich can show only one live display at a time, so they share it."""

    def __init__(self) -> None:
        self._lock = forks.renewed(threading.Lock())
        self._progress: Progress | None = None
        self._open: set[TaskID] = set()
        forks.renew(self)

    def after_fork(self) -> None:
        """Forget the display, whose thread is in the parent of this process."""
        self._progress, self._open = None, set()

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

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False)

    def close(self, task: TaskID, *, erase: bool) -> None:
        """Stop drawing a bar, and leave it on the terminal or erase it."""
        with self._lock:
            if self._progress is None:
                return
            if erase:
                self._progress.remove_task(task)
            else:
                self._progress.stop_task(task)
            self._open.discard(task)
            # rich leaves its last drawing on the terminal. If all bars are erased, that is an empty line, so erase it.
            if not self._open:
                self._progress.live.transient = not self._progress.tasks
                self._progress.stop()
                self._progress = None


_BARS = _Bars()


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=streams.stderr)
    # Output of the user's script on the same terminal appears above the bars. If stdout is a file or a pipe, rich
    # must not redirect it, because it would send it to stderr. Interactive sessions handle stdout themselves.
    same_terminal = streams.is_terminal(sys.stdout) and not at_prompt() and "IPython" not in sys.modules
    columns = columns_of(console.width)
    return Progress(*columns, console=console, expand=True, redirect_stdout=same_terminal, redirect_stderr=False)


def columns_of(width: int) -> list[ProgressColumn]:
    """Return the columns of a line with ``width`` characters: name, bar, text and time.

    A narrow line has no bar and no time. The end of a long text is cut off.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    # rich cannot redraw a line that wraps. So one column, the text, has no fixed width, and its end is cut off.
    longest = NAME_WIDTH if width >= WIDE else NAME_WIDTH // 2
    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=longest))
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    text = TextColumn("{task.fields[text]}", markup=False, table_column=rest)
    if width < NARROW:
        return [name, text]
    return [name, BarColumn(bar_width=20 if width >= WIDE else 10), text, TimeElapsedColumn()]
