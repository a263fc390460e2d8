"""Lines that name the current stage while a Knot is created, with the time since the start.

A stage of less than a second is not announced, so a knot that exists already is silent. The lines go to stderr, also
without a terminal, and in a notebook into the output of the cell. ``CLOUDKNOT_PROGRESS=0`` hides them.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cloudknot.display.notebook import NotebookLines
from cloudknot.display.progress import chosen
from cloudknot.options import streams

DELAY = 1.0
"""Seconds before a running stage is announced."""
NEWS = 60.0
"""Seconds between two lines on the same stage."""
TICK = 1.0
"""Seconds between two updates of the time in a notebook."""


class StageLines(Protocol):
    """A place for the lines on stages."""

    pause: float
    """Seconds between two calls of `go_on`."""

    def begin(self, text: str) -> None:
        """Show a new line."""

    def go_on(self, text: str) -> None:
        """Show that the work of the last line goes on."""


class StderrLines:
    """Lines on stderr."""

    pause = NEWS

    def begin(self, text: str) -> None:
        """Print the line."""
        streams.write_line(text)

    # A log shows each line with its own time, so that a reader sees that something happens.
    go_on = begin


class NotebookStages:
    """Lines in the output of a cell. The last one changes while its stage runs."""

    pause = TICK

    def __init__(self, show: Callable[[list[str]], None] | None = None) -> None:
        self._lines: list[str] = []
        self._show = show or NotebookLines().show

    def begin(self, text: str) -> None:
        """Show one more line."""
        self._lines.append(text)
        self._show(self._lines)

    def go_on(self, text: str) -> None:
        """Replace the last line."""
        self._lines[-1] = text
        self._show(self._lines)


class Stages:
    """The stages in the creation of the knot ``name``. Each one is announced after ``delay`` seconds.

    Parameters
    ----------
    name : str
    delay : float
    place : StageLines, optional
        Default: the output of the cell in a notebook, else stderr.
    """

    def __init__(self, name: str, delay: float = DELAY, place: StageLines | None = None) -> None:
        self._name, self._delay = name, delay
        self._is_shown = chosen() is not False
        self._place = place or (NotebookStages() if streams.in_notebook() else StderrLines())
        self._start, self._announced, self._broken = time.monotonic(), False, False
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Announce the stage unless the block ends before the delay."""
        ended = threading.Event()
        if self._is_shown:
            # In a copy of the context, because a notebook finds the cell of an output by it.
            target = contextvars.copy_context().run
            # A daemon does not hold up the end of the script.
            threading.Thread(target=target, args=(self._watch, description, ended), daemon=True).start()
        try:
            yield
        finally:
            # With the lock, so that no line on this stage appears after the block.
            with self._lock:
                ended.set()

    def ready(self) -> None:
        """Report that the knot is ready, if a stage was announced."""
        if self._announced:
            self._write(self._place.begin, f"ready after {self._seconds()}")

    def _watch(self, description: str, ended: threading.Event) -> None:
        """Announce a stage after the delay, and go on until it has ended: the target of its thread."""
        if ended.wait(self._delay):
            return
        begun = time.monotonic()
        with self._lock:
            if not ended.is_set():
                since = f" ({self._seconds()} so far)" if self._announced else ""
                self._announced = True
                self._write(self._place.begin, f"{description} ...{since}")
        while not ended.wait(self._place.pause):
            with self._lock:
                if not ended.is_set():
                    took = time.monotonic() - begun + self._delay
                    self._write(self._place.go_on, f"{description} ... ({took:.0f} s)")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._start:.0f} s"

    def _write(self, write: Callable[[str], None], text: str) -> None:
        """Show a line. After the first error, show nothing, because the knot matters more than its display."""
        if self._broken:
            return
        try:
            write(f"{self._name}: {text}")
        except Exception:
            self._broken = True
