"""SentBytes: show how much of an image has been sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from cloudknot.options import streams

SHOWN_FROM = 1 << 20
"""Bytes from which on the progress is shown. Less has arrived before anybody can read a line."""


class StoppedError(Exception):
    """The user has interrupted the session, which waits for this image no more."""


class SentBytes:
    """The number of bytes sent for one image, and a line on stderr that shows it while it grows.

    It is a context manager that ends the display.

    Parameters
    ----------
    title : str
        ``"Sending the image"``
    shown : bool, optional
        Default: ``CLOUDKNOT_PROGRESS`` (0 or 1), else only where a user watches.
    stop : Event, optional
        Once set, `add` raises `StoppedError`, which ends the upload that reports its bytes.
    """

    def __init__(self, title: str, shown: bool | None = None, stop: threading.Event | None = None) -> None:
        self._title, self._choice, self._stop = title, shown, stop
        self._line: BytesLine | None = None
        self._lock = threading.Lock()
        self.total = 0

    def __enter__(self) -> SentBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._line is not None:
                self._line.end(self.total)
                self._choice = False

    def add(self, count: int) -> None:
        """Count bytes that were sent; a negative number for bytes that must be sent again."""
        if self._stop is not None and self._stop.is_set():
            raise StoppedError
        with self._lock:
            self.total += count
            if self._choice is not False and self.total >= SHOWN_FROM:
                self._show()

    def _show(self) -> None:
        if self._line is None:
            from cloudknot.display.progress import is_shown

            self._choice = is_shown(self._choice)
            if not self._choice:
                return
            self._line = NotebookLine(self._title) if streams.in_notebook() else TerminalLine(self._title)
        self._line.update(self.total)


class BytesLine(Protocol):
    """A line that shows the number of sent bytes."""

    def update(self, total: int) -> None:
        """Show the number."""

    def end(self, total: int) -> None:
        """Show the last number."""


class TerminalLine:
    """A line on the terminal, drawn by rich."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            DownloadColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(file=streams.stderr))
        self._task = self._progress.add_task(title, total=None)
        self._progress.start()

    def update(self, total: int) -> None:
        """Show the number."""
        self._progress.update(self._task, completed=total)

    def end(self, total: int) -> None:
        """Show the last number."""
        # Without a total, rich would keep the bar pulsing as if the step went on.
        self._progress.update(self._task, total=total, completed=total)
        self._progress.stop()


class NotebookLine:
    """A line in the output of a cell. rich's own needs a package for widgets there, and warns in a red box without."""

    def __init__(self, title: str, show: Callable[[list[str]], None] | None = None) -> None:
        from cloudknot.display.notebook import NotebookLines

        self._title, self._show = title, show or NotebookLines().show
        self._next = 0.0

    def update(self, total: int) -> None:
        """Show the number, at most twice a second."""
        from cloudknot.display.notebook import PAUSE

        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PAUSE
            self.end(total)

    def end(self, total: int) -> None:
        """Show the last number."""
        from cloudknot.display.tables import size

        self._show([f"{self._title}: {size(total)}"])
