"""Progress bars on a terminal, and the columns of all bars. rich draws them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from cloudknot.aws.sdk import forks
from cloudknot.display.picture import Notes, Picture
from cloudknot.display.tables import shortened
from cloudknot.options import streams

if TYPE_CHECKING:
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskID
    from rich.theme import Theme

NARROW, WIDE = 60, 100
"""Widths in characters. A narrower line than the first has no bar. From the second on, the bar is long."""
TEXT_WIDTH = 24
"""Characters that the text of a line with a bar has at least: the elements, failures, rate and remaining time."""
# Middle tones, which are legible on a light and on a dark background. rich draws bars in pink, which looks like an
# error, and yellow times, which a light notebook hardly shows.
RUNNING, DONE, FAILED, QUIET = "#3b82f6", "#22a35a", "#e5484d", "#808080"
"""Colours: of a running map, of one with all results, of one with failures, and of times and unfilled bars."""


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
        self._notes = Notes(name, count)
        # At a prompt, a bar would be drawn over the line that the user types, with the cursor hidden.
        self._paused = at_prompt()
        # The collector's thread draws the bar, and the thread of an interrupted wait pauses it.
        self._lock = threading.RLock()

    def update(self, picture: Picture) -> None:
        """Show the picture, and print each new note above the bars."""
        with self._lock:
            if self._paused:
                return
            if self._task is None:
                self._task = _BARS.add(self._name, self._count)
            _BARS.update(self._task, picture)
            for note in self._notes.new(picture):
                _BARS.print(note)

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
            task = self._progress.add_task(name, total=count, text="", failed=0)
            self._open.add(task)
            return task

    def update(self, task: TaskID, picture: Picture) -> None:
        with self._lock:
            if self._progress is not None and task in self._open:
                self._progress.update(task, completed=picture.ended, text=picture.text, failed=picture.failed)

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

    console = Console(file=streams.stderr, theme=theme())
    # Output of the user's script on the same terminal appears above the bars. If stdout is a file or a pipe, rich
    # must not redirect it, because it would send it to stderr. Interactive sessions handle stdout themselves.
    same_terminal = streams.is_terminal(sys.stdout) and not at_prompt() and "IPython" not in sys.modules
    columns = columns_of(console.width)
    return Progress(*columns, console=console, expand=True, redirect_stdout=same_terminal, redirect_stderr=False)


def theme() -> Theme:
    """Return the colours of all bars."""
    from rich.theme import Theme

    colours = {"complete": RUNNING, "finished": DONE, "back": QUIET, "pulse": RUNNING}
    return Theme({"progress.elapsed": QUIET, **{f"bar.{name}": colour for name, colour in colours.items()}})


def columns_of(width: int) -> list[ProgressColumn]:
    """Return the columns of a line with ``width`` characters: name, bar, text and time.

    A narrow line has no bar and no time. The end of a long text is cut off, and the middle of a long name.
    """
    from rich.progress import TextColumn, TimeElapsedColumn
    from rich.table import Column

    # rich cannot redraw a line that wraps. So one column, the text, has no fixed width, and its end is cut off.
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    text = TextColumn("{task.fields[text]}", markup=False, table_column=rest)
    if width < NARROW:
        return [_name_column(width // 2), text]
    bar = 20 if width >= WIDE else 10
    # Eight characters for the time, and three blanks between the columns.
    return [_name_column(width - bar - TEXT_WIDTH - 11), _bar_column(bar), text, TimeElapsedColumn()]


def _name_column(width: int) -> ProgressColumn:
    """Return the column with the names of maps, in at most ``width`` characters."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Name(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(shortened(task.description, width), no_wrap=True)

    return Name()


def _bar_column(width: int) -> BarColumn:
    """Return the column with the bars. The bar of a map with failures has another colour."""
    from rich.progress import BarColumn, Task
    from rich.progress_bar import ProgressBar

    class Bar(BarColumn):
        def render(self, task: Task) -> ProgressBar:
            bar = super().render(task)
            if task.fields["failed"]:
                bar.complete_style = bar.finished_style = FAILED
            return bar

    return Bar(bar_width=width)
