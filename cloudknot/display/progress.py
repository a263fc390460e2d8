"""The progress line of a map: a bar on a terminal and in a notebook, elsewhere one line at the end.

The collector passes the numbers that it has anyway, so progress costs no calls. An error in the display never stops
the map. Output of the user's script stays as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol

from cloudknot.aws.batch import UNSUBMITTED
from cloudknot.display.notebook import NotebookBar
from cloudknot.display.picture import Notes, Picture
from cloudknot.display.terminal import TerminalBar
from cloudknot.options import streams

P = ParamSpec("P")


VARIABLE = "CLOUDKNOT_PROGRESS"
STATES = (
    ("RUNNING", "running"),
    ("STARTING", "starting"),
    ("RUNNABLE", "waiting"),
    ("PENDING", "pending"),
    ("SUBMITTED", "submitted"),
    (
        UNSUBMITTED,
        "not submitted yet (if the session that submits them has ended, call retry_failed() in a few minutes)",
    ),
)
"""The words for Batch's states of live jobs. A pending job waits for other jobs."""
WINDOW = 60.0
"""Seconds over which the rate is measured."""

CANNOT_SHOW = "The progress bar cannot be shown. The map continues."


def is_shown(choice: bool | None) -> bool:
    """Return whether to show progress: the argument, else ``CLOUDKNOT_PROGRESS`` (0 or 1), else if a user watches."""
    choice = chosen() if choice is None else choice
    return streams.is_terminal(sys.stderr) or streams.in_notebook() if choice is None else choice


def chosen() -> bool | None:
    """Return the user's choice in ``CLOUDKNOT_PROGRESS``; None without one."""
    variable = os.environ.get(VARIABLE)
    return variable not in ("0", "false", "no") if variable else None


@dataclass(frozen=True)
class Snapshot:
    """The progress of a map at one moment.

    Attributes
    ----------
    done, failed, cancelled : int
        The numbers of elements with a result, without one, and unfinished when the map was cancelled.
    states : mapping
        The number of child jobs in each of Batch's states.
    reason, failure, advice : str
        The same as in `Picture`.
    """

    done: int
    failed: int = 0
    cancelled: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    failure: str = ""
    advice: str = ""

    @property
    def ended(self) -> int:
        """The number of elements that need no more work."""
        return self.done + self.failed + self.cancelled


def progress_line(name: str, count: int, choice: bool | None) -> ProgressLine | None:
    """Return the progress line for a map of ``count`` elements, or None if none `is_shown`."""
    # The map is submitted by now, and an error here would lose its future.
    try:
        return ProgressLine(count, _line(name, count)) if is_shown(choice) else None
    except Exception:
        streams.logger.warning(CANNOT_SHOW, exc_info=True)
        return None


def _line(name: str, count: int) -> Line:
    if streams.in_notebook():
        return NotebookBar(name, count)
    return TerminalBar(name, count) if streams.is_terminal(sys.stderr) else _LastLine(name, count)


class Progress(Protocol):
    """An object that shows the progress of a map, such as `ProgressLine`."""

    def show(self, now: Snapshot) -> None:
        """Show the progress."""

    def pause(self) -> None:
        """Stop drawing where the user may type."""

    def resume(self) -> None:
        """Draw again, because a call waits for results."""

    def stop(self) -> None:
        """End the display."""


class Line(Protocol):
    """A place that shows one text at a time: a terminal, a notebook or a stream."""

    def update(self, picture: Picture) -> None:
        """Show a picture in place of the last one."""

    def pause(self) -> None:
        """Stop drawing where the user may type."""

    def resume(self) -> None:
        """Draw again."""

    def close(self) -> None:
        """Leave the last text as it is."""


class ProgressLine:
    """The progress of a map with ``count`` elements, on a `Line`."""

    def __init__(self, count: int, line: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._line, self._clock = count, line, clock
        self._samples: deque[tuple[float, int]] = deque()
        self._broken = False

    def show(self, now: Snapshot) -> None:
        """Show the progress."""
        text = summary(now, self._count, self._speed(now.ended))
        self._try(self._line.update, Picture(now.ended, text, now.failed, now.failure, now.reason, now.advice))

    def _speed(self, ended: int) -> str:
        """Return the rate and the remaining time. Empty while nothing has ended, and at the end."""
        now, samples = self._clock(), self._samples
        samples.append((now, ended))
        while len(samples) > 2 and samples[0][0] < now - WINDOW:
            samples.popleft()
        passed, number = now - samples[0][0], ended - samples[0][1]
        if ended >= self._count or number <= 0 or passed <= 0:
            return ""
        return f"{per_time(number / passed)}, {clock_time((self._count - ended) * passed / number)} left"

    def pause(self) -> None:
        """Stop drawing where the user may type. Otherwise the bar would overwrite the prompt."""
        self._try(self._line.pause)

    def resume(self) -> None:
        """Draw again, because a call waits for results."""
        self._try(self._line.resume)

    def stop(self) -> None:
        """Leave the line as it is."""
        self._try(self._line.close)

    def _try(self, act: Callable[P, None], *arguments: P.args, **options: P.kwargs) -> None:
        """Call a method of the line. After the first error, do nothing."""
        # The collector calls this, and an error in the display must not end its thread.
        if self._broken:
            return
        try:
            act(*arguments, **options)
        except Exception:
            self._broken = True
            streams.logger.warning(CANNOT_SHOW, exc_info=True)


def summary(now: Snapshot, count: int, speed: str = "") -> str:
    """Return the progress as text: ``3/9, 1 failed, 10/s, 0:01 left, 2 running, 4 waiting``."""
    # The most important numbers come first, because a narrow line cuts off the end.
    without_result = ((now.failed, "failed"), (now.cancelled, "cancelled"))
    counts = [f"{now.ended:,}/{count:,}", *(f"{number:,} {word}" for number, word in without_result if number)]
    return ", ".join(filter(None, [*counts, speed, describe(now.states, count)]))


def describe(states: Mapping[str, int], count: int) -> str:
    """Return the states of live jobs as text, without zeros: ``2 running, 6 waiting``."""
    live = [f"{states[state]:,} {word}" for state, word in STATES if states.get(state)]
    # A child job with several elements counts once here, and the numbers before it count elements.
    if live and sum(states.values()) != count:
        live[0] = f"jobs: {live[0]}"
    return ", ".join(live)


def per_time(rate: float) -> str:
    """Return a rate with a readable unit: ``35/s``, ``12/min`` or ``3/h``."""
    for seconds, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * seconds >= 1 or unit == "h":
            break
    return f"{rate * seconds:.{0 if rate * seconds >= 10 else 1}f}/{unit}"


def clock_time(seconds: float) -> str:
    """Return a duration as minutes and seconds, ``2:45``, or with hours, ``1:02:45``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _LastLine:
    """A single line on stderr with the last text, and a line for each note."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._text, self._notes = name, "", Notes(name, count)

    def update(self, picture: Picture) -> None:
        self._text = picture.text
        for note in self._notes.new(picture):
            streams.write_line(note)

    def pause(self) -> None:
        """Do nothing: no text is ever overwritten."""

    def resume(self) -> None:
        """Do nothing: the line is never paused."""

    def close(self) -> None:
        if self._text:
            streams.write_line(f"{self._name}: {self._text}")
