"""A bar in a notebook: in the outputs of the cell that called ``map``, and in no other."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cloudknot.display.terminal import WIDE, columns_of

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 0.5
"""Seconds between two drawings."""
WIDTH = 2 * WIDE
"""Characters of a line; the notebook wraps what it has no room for."""
FORMAT = '<pre style="white-space:pre-wrap;line-height:normal;margin:0">{code}</pre>'


class Handle(Protocol):
    """Replaces a drawing below a cell; IPython's ``DisplayHandle`` is one."""

    def update(self, drawing: dict[str, str], /, *, raw: bool) -> object: ...


def _display(drawing: dict[str, str]) -> Handle:
    """Show a drawing below the cell, and give the handle that replaces it."""
    from IPython import display

    handle: Handle = display.display(drawing, raw=True, display_id=True)  # type: ignore[no-untyped-call,unused-ignore]
    return handle


class NotebookBar:
    """The bar of a map of ``count`` elements.

    rich's own live display clears the outputs of whichever cell runs at the moment. Here rich only draws, and each
    drawing replaces the one before in a display of IPython's, which belongs to its cell and is saved with it.
    """

    def __init__(
        self,
        name: str,
        count: int,
        clock: Callable[[], float] = time.monotonic,
        display: Callable[[dict[str, str]], Handle] = _display,
    ) -> None:
        from rich.progress import Progress

        self._name, self._count = name, count
        self._text, self._why = f"0/{count:,}", ""
        self._clock, self._drawn, self._stale = clock, clock(), False
        self._lock = threading.Lock()
        self._progress = Progress(*columns_of(WIDTH), console=_console(), auto_refresh=False)
        self._task = self._progress.add_task(name, total=count, text=self._text)
        self._handle = display(self._drawing())

    def update(self, ended: int, text: str, why: str) -> None:
        """Show the text and how many elements have ended, unless the last drawing was a moment ago.

        When all have ended it is shown at once, because whoever waits for them goes on in a moment, and never again.
        """
        with self._lock:
            if self._progress.finished and text == self._text:
                return
            self._text, self._why = text, why
            self._progress.update(self._task, completed=ended, text=text)
            self._stale = True
            if ended >= self._count or self._clock() - self._drawn >= PAUSE:
                self._draw()

    def pause(self) -> None:
        """It is in the outputs of its cell, where nobody types."""

    def resume(self) -> None:
        """It was never paused."""

    def close(self) -> None:
        """Show what was not drawn yet; the last drawing stays."""
        with self._lock:
            self._progress.stop_task(self._task)
            if self._stale:
                self._draw()

    def _draw(self) -> None:
        self._handle.update(self._drawing(), raw=True)
        self._drawn, self._stale = self._clock(), False

    def _drawing(self) -> dict[str, str]:
        """The bar as HTML, and as text for what shows no HTML."""
        console = _console()
        console.print(self._progress.make_tasks_table(self._progress.tasks))
        if self._why:
            console.print(self._why, markup=False, highlight=False, soft_wrap=True)
        html = console.export_html(code_format=FORMAT, inline_styles=True)
        return {"text/html": html, "text/plain": "\n".join(filter(None, [f"{self._name}: {self._text}", self._why]))}


def _console() -> Console:
    """What rich draws on: it keeps the drawing, and prints nothing."""
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        record=True,
        width=WIDTH,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
    )
