"""Follow a Docker engine while it builds, pulls or pushes: show progress, and keep the log for errors."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict

from cloudknot.errors import ImageError
from cloudknot.options import streams

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class LayerProgress(TypedDict, total=False):
    """The size of a layer, and the number of bytes that have arrived."""

    current: int
    total: int


class Event(TypedDict, total=False):
    """One line of the engine's answer."""

    error: str
    id: str
    status: str
    stream: str
    progressDetail: LayerProgress


LOG_LINES = 20
"""Number of the last log lines that the error of a failed build shows."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STEP = re.compile(r"Step \d+/\d+ : (.*)", re.DOTALL)
_CHATTER = re.compile(r"\s*$| ---> |Removing intermediate container ")
"""Lines that the engine itself prints between the output of the steps."""
_OWN = re.compile(r"Step \d+/\d+ : | ---> |Removing intermediate container ")
"""The beginning of an event that contains a line of the engine itself."""


class EngineLog:
    """The log of one request to the engine. It is a context manager that ends the progress display.

    Parameters
    ----------
    title : str
        The step, for the error: ``"Pushing 127.0.0.1:5000/cloudknot:latest"``.
    brief : str, optional
        A shorter title for the screen, where an address would leave no room for bars. Default: the title.
    shown : bool, optional
        Whether to show progress on stderr. Default: ``CLOUDKNOT_PROGRESS`` (0 or 1), else
        only on a terminal.
    """

    def __init__(self, title: str, brief: str = "", shown: bool | None = None) -> None:
        self._title = title
        self._screen = _Screen(brief or title) if (_is_progress_wanted() if shown is None else shown) else None
        self._instruction = self._begun = ""
        self._lines: deque[str] = deque(maxlen=LOG_LINES)

    def __enter__(self) -> EngineLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._screen:
            self._screen.stop()

    def follow(self, events: Iterable[Event]) -> None:
        """Read the events to the end. Raise `ImageError` with the engine's message if one reports a failure."""
        failure: ImageError | None = None
        # Reading goes on after a failure: an answer that is not read to its end keeps its connection open.
        for event in events:
            self._text(str(event.get("stream") or ""))
            if "error" in event:
                self._end_line()
                failure = failure or self._failure(str(event["error"]).strip())
            if event.get("id") and self._screen:
                self._screen.layer(event)
        self._end_line()
        if failure:
            raise failure

    def _text(self, text: str) -> None:
        # The engine colours the error output of a step, but the text of an exception must be plain.
        text = _COLOUR.sub("", text)
        if _OWN.match(text):
            self._end_line()
        # The engine sends the output of a step as it arrives, so an event may end within a line.
        *ended, self._begun = re.split(r"[\r\n]", self._begun + text)
        for line in ended:
            self._line(line)

    def _end_line(self) -> None:
        line, self._begun = self._begun, ""
        self._line(line)

    def _line(self, line: str) -> None:
        if step := _STEP.match(line):
            self._instruction = step[1].strip()
            # Only the output of the failed step helps to explain a failure.
            self._lines.clear()
        elif _CHATTER.match(line):
            return
        else:
            self._lines.append(line)
        if self._screen:
            self._screen.line(line)

    def _failure(self, message: str) -> ImageError:
        step = f"\nThe failed instruction of the Dockerfile:\n    {self._instruction}" if self._instruction else ""
        log = "\n".join(self._lines)
        tail = f"\nThe end of its log:\n{log}" if log else ""
        text = f"{self._title} failed: {message}{step}{tail}"
        return ImageError(text, instruction=self._instruction, log=log)


def _is_progress_wanted() -> bool:
    variable = os.environ.get("CLOUDKNOT_PROGRESS")
    if variable:
        return variable not in ("0", "false", "no")
    return streams.is_terminal(sys.stderr)


class _Screen:
    """A spinner with the last line of the log, and a bar for each layer that is pushed or pulled."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        bar, size = BarColumn(), DownloadColumn()
        self._layers: dict[str, TaskID] = {}
        self._console = Console(file=streams.stderr)
        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *(bar, size) if title.startswith(("Pushing", "Pulling")) else (),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._title = title
        self._main = self._progress.add_task(title, total=None)
        self._progress.start()

    def line(self, line: str) -> None:
        room = max(20, self._console.width - 12 - len(self._title))
        self._progress.update(self._main, description=f"{self._title}: {line.strip()[:room]}")

    def layer(self, event: Event) -> None:
        detail = event.get("progressDetail") or {}
        name, status = str(event["id"]), str(event.get("status", ""))
        if "total" in detail and name not in self._layers:
            self._layers[name] = self._progress.add_task(name)
        if name not in self._layers:
            return
        if "total" in detail:
            self._progress.update(
                self._layers[name],
                description=f"  {name} {status}",
                completed=min(detail.get("current", 0), detail["total"]),
                total=detail["total"],
            )
        elif status in ("Pushed", "Pull complete", "Layer already exists"):
            layer = next(task for task in self._progress.tasks if task.id == self._layers[name])
            self._progress.update(layer.id, completed=layer.total, visible=False)
        self._add_up()

    def _add_up(self) -> None:
        layers = [task for task in self._progress.tasks if task.id != self._main]
        self._progress.update(
            self._main, completed=sum(task.completed for task in layers), total=sum(task.total or 0 for task in layers)
        )

    def stop(self) -> None:
        """Leave one line on the screen: the step, the bytes moved, and the time it took."""
        for layer in self._layers.values():
            self._progress.update(layer, visible=False)
        # Without a total, rich would keep the bar pulsing as if the step went on.
        if not self._layers:
            self._progress.update(self._main, total=0)
        self._progress.update(self._main, description=self._title)
        self._progress.stop()
