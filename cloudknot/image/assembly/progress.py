"""SentBytes: show how much of an image has been sent."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from cloudknot.options import streams

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._lock = threading.Lock()
        self.total = 0

    def __enter__(self) -> SentBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            if self._progress and self._task is not None:
                # Without a total, rich would keep the bar pulsing as if the step went on.
                self._progress.update(self._task, total=self.total, completed=self.total)
                self._progress.stop()
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
        if self._progress is None:
            from cloudknot.display.progress import is_shown

            self._choice = is_shown(self._choice)
            if not self._choice:
                return
            self._progress = _line()
            self._task = self._progress.add_task(self._title, total=None)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=self.total)


def _line() -> Progress:
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    return Progress(SpinnerColumn(), text, DownloadColumn(), TimeElapsedColumn(), console=Console(file=streams.stderr))
