"""Progress in a notebook: the bar of a map, and lines of text. Each stays in the output of its cell."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from cloudknot.display.picture import Picture
from cloudknot.display.terminal import FAILED, QUIET, WIDE, columns_of, theme

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 0.5
"""Seconds between two updates of the bar."""
# Wide enough that rich cuts nothing off. A notebook with less room wraps the line.
WIDTH = 2 * WIDE
"""Characters of a line."""
FORMAT = '<pre style="white-space:pre-wrap;line-height:normal;margin:0">{code}</pre>'


class Handle(Protocol):
    """An object that replaces a drawing in the output of a cell, such as IPython's ``DisplayHandle``."""

    def update(self, drawing: dict[str, str], /, *, raw: bool) -> object: ...


def _display(drawing: dict[str, str]) -> Handle:
    """Show a drawing in the output of the current cell, and return the handle that replaces it."""
    from IPython import display

    handle: Handle = display.display(drawing, raw=True, display_id=True)  # type: ignore[no-untyped-call,unused-ignore]
    return handle


class NotebookBar:
    """The progress bar of a map with ``count`` elements.

    rich draws the bar as HTML, and each drawing replaces the previous one in an IPython display. The display belongs
    to its cell and is saved with the notebook.
    """

    # rich's own live display clears the output of the cell that runs at the moment, which may be another one by then.
    # Widgets need an extension and are not saved with the notebook.

    def __init__(
        self,
        name: str,
        count: int,
        clock: Callable[[], float] = time.monotonic,
        display: Callable[[dict[str, str]], Handle] = _display,
    ) -> None:
        from rich.progress import Progress

        self._name, self._count = name, count
        self._picture = Picture(0, f"0/{count:,}")
        self._clock, self._drawn_at, self._stale = clock, clock(), False
        self._lock = threading.Lock()
        self._progress = Progress(*columns_of(WIDTH), console=_console(), auto_refresh=False)
        self._task = self._progress.add_task(name, total=count, text=self._picture.text, failed=0)
        self._handle = display(self._drawing())

    def update(self, picture: Picture) -> None:
        """Show the picture, at most twice a second."""
        # The last drawing is shown at once, before the waiting cell continues. nbclient, which runs notebooks without
        # a browser, drops all output for a cell that has ended.
        with self._lock:
            if self._progress.finished and picture.text == self._picture.text:
                return
            self._picture = picture
            self._progress.update(self._task, completed=picture.ended, text=picture.text, failed=picture.failed)
            self._stale = True
            if picture.ended >= self._count or self._clock() - self._drawn_at >= PAUSE:
                self._draw()

    def pause(self) -> None:
        """Do nothing: the bar is in the output of its cell, where nobody types."""

    def resume(self) -> None:
        """Do nothing: the bar is never paused."""

    def close(self) -> None:
        """Draw the last update, which then stays."""
        with self._lock:
            self._progress.stop_task(self._task)
            if self._stale:
                self._draw()

    def _draw(self) -> None:
        self._handle.update(self._drawing(), raw=True)
        self._drawn_at, self._stale = self._clock(), False

    def _drawing(self) -> dict[str, str]:
        """Return the bar as HTML, and as plain text for tools that show no HTML."""
        console, picture = _console(), self._picture
        console.print(self._progress.make_tasks_table(self._progress.tasks))
        notes = [(picture.failure, FAILED), (picture.reason, ""), (picture.advice, QUIET)]
        notes = [(note, style) for note, style in notes if note]
        for note, style in notes:
            # A note holds AWS's or the user's words, in which brackets are no markup of rich.
            console.print(note, style=style, markup=False, highlight=False, soft_wrap=True)
        lines = [f"{self._name}: {picture.text}", *(note for note, _ in notes)]
        return {"text/html": _html(console), "text/plain": "\n".join(lines)}


class NotebookLines:
    """Lines of text in the output of the current cell. Nothing appears before the first line."""

    def __init__(self, display: Callable[[dict[str, str]], Handle] = _display) -> None:
        self._display = display
        self._handle: Handle | None = None

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the earlier ones."""
        console = _console()
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        drawing = {"text/html": _html(console), "text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = self._display(drawing)
        else:
            self._handle.update(drawing, raw=True)


def _html(console: Console) -> str:
    """Return the recorded drawing of a console as HTML."""
    return console.export_html(code_format=FORMAT, inline_styles=True)


def _console() -> Console:
    """Return a console that records rich's drawing and prints nothing."""
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
        theme=theme(),
    )
