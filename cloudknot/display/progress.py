"""One line that tells how a map gets on, kept up to date by what the collector sees anyway.

On a terminal and in a notebook it is a bar of rich's, elsewhere one line at the end. What the user prints is left
alone, and a line that cannot be shown stops no map.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol

from cloudknot.aws.batch import UNSUBMITTED
from cloudknot.display.notebook import NotebookBar
from cloudknot.display.terminal import TerminalBar

P = ParamSpec("P")

logger = logging.getLogger("cloudknot")

VARIABLE = "CLOUDKNOT_PROGRESS"
STATES = (
    ("RUNNING", "running"),
    ("STARTING", "starting"),
    ("RUNNABLE", "waiting"),
    ("PENDING", "pending"),
    ("SUBMITTED", "submitted"),
    (
        UNSUBMITTED,
        "not submitted yet (if the session that submits them has ended, retry_failed() can in some minutes)",
    ),
)
"""What Batch's states of live jobs are called here. Those that are pending wait for other jobs."""
WINDOW = 60.0
"""Seconds over which the rate is measured."""

CANNOT_SHOW = "Progress cannot be shown; the map goes on"


def wanted(choice: bool | None) -> bool:
    """Whether to show progress: the argument, else ``CLOUDKNOT_PROGRESS`` (0 or 1), else where a person looks on."""
    if choice is not None:
        return choice
    variable = os.environ.get(VARIABLE)
    if variable:
        return variable not in ("0", "false", "no")
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@dataclass(frozen=True)
class Snapshot:
    """How a map gets on at one moment.

    Attributes
    ----------
    done, failed, cancelled : int
        Elements that have a result, that have ended without one, and that were left when the map was cancelled.
    states : mapping
        How many children are in which of Batch's states.
    why : str
        The sentence that says why none of the jobs starts; empty while one runs or nothing is known.
    """

    done: int
    failed: int = 0
    cancelled: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    why: str = ""

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.cancelled


def progress_line(name: str, count: int, choice: bool | None) -> ProgressLine | None:
    """The line for a map of ``count`` elements, if it is `wanted`."""
    if not wanted(choice):
        return None
    try:
        return ProgressLine(count, _line(name, count))
    except Exception:
        logger.warning(CANNOT_SHOW, exc_info=True)
        return None


def _line(name: str, count: int) -> Line:
    if in_notebook():
        return NotebookBar(name, count)
    return TerminalBar(name, count) if sys.stderr.isatty() else _LastLine(name)


class Progress(Protocol):
    """Who shows how a map gets on; `ProgressLine` does."""

    def show(self, now: Snapshot) -> None:
        """Show how the map gets on."""

    def pause(self) -> None:
        """Leave a terminal to whoever types there."""

    def resume(self) -> None:
        """Somebody waits again."""

    def stop(self) -> None:
        """Show no more."""


class Line(Protocol):
    """Where a text is shown, each in place of the one before."""

    def update(self, ended: int, text: str, why: str) -> None:
        """Show how many elements have ended, the text, and the sentence about jobs that cannot start."""

    def pause(self) -> None:
        """Show nothing in a place where somebody may type."""

    def resume(self) -> None:
        """Show again."""

    def close(self) -> None:
        """Leave what was shown last."""


class ProgressLine:
    """How a map of ``count`` elements gets on, on a `Line`."""

    def __init__(self, count: int, line: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._line, self._clock = count, line, clock
        self._samples: deque[tuple[float, int]] = deque()
        self._broken = False

    def show(self, now: Snapshot) -> None:
        """Show how the map gets on."""
        self._try(self._line.update, now.ended, summary(now, self._count, self._speed(now.ended)), now.why)

    def _speed(self, ended: int) -> str:
        """The rate and the time left, while there is a rate to tell and something left."""
        now, samples = self._clock(), self._samples
        samples.append((now, ended))
        while len(samples) > 2 and samples[0][0] < now - WINDOW:
            samples.popleft()
        passed, number = now - samples[0][0], ended - samples[0][1]
        if ended >= self._count or number <= 0 or passed <= 0:
            return ""
        return f"{per_time(number / passed)}, {clock_time((self._count - ended) * passed / number)} left"

    def pause(self) -> None:
        """Leave a terminal to whoever types there: a prompt would be drawn over."""
        self._try(self._line.pause)

    def resume(self) -> None:
        """Somebody waits again."""
        self._try(self._line.resume)

    def stop(self) -> None:
        """Leave the line as it is."""
        self._try(self._line.close)

    def _try(self, act: Callable[P, None], *arguments: P.args, **options: P.kwargs) -> None:
        """Do something with the line, and nothing more once that has failed: who calls has results to collect."""
        if self._broken:
            return
        try:
            act(*arguments, **options)
        except Exception:
            self._broken = True
            logger.warning(CANNOT_SHOW, exc_info=True)


def summary(now: Snapshot, count: int, speed: str = "") -> str:
    """``3/9, 1 failed, 2 running, 4 waiting``, with the speed before what the jobs do.

    What matters most comes first: where there is little room, the end is left out.
    """
    without = ((now.failed, "failed"), (now.cancelled, "cancelled"))
    counts = [f"{now.ended:,}/{count:,}", *(f"{number:,} {what}" for number, what in without if number)]
    return ", ".join(filter(None, [*counts, speed, describe(now.states, count)]))


def describe(states: Mapping[str, int], count: int) -> str:
    """``2 running, 6 waiting``, leaving out what there is none of.

    Where a child has several elements, the states are said to be those of jobs.
    """
    live = [f"{states[state]:,} {what}" for state, what in STATES if states.get(state)]
    if live and sum(states.values()) != count:
        live[0] = f"jobs: {live[0]}"
    return ", ".join(live)


def per_time(rate: float) -> str:
    """A rate in the largest unit that does not make it small: ``35/s``, ``12/min``, ``3/h``."""
    for seconds, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if rate * seconds >= 1 or unit == "h":
            break
    return f"{rate * seconds:.{0 if rate * seconds >= 10 else 1}f}/{unit}"


def clock_time(seconds: float) -> str:
    """``2:45``, or ``1:02:45``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _LastLine:
    """Only the last text, as one line on stderr."""

    def __init__(self, name: str) -> None:
        self._name, self._text, self._told = name, "", ""

    def update(self, ended: int, text: str, why: str) -> None:
        self._text = text
        if why and why != self._told:
            self._told = why
            print(why, file=sys.stderr, flush=True)

    def pause(self) -> None:
        """It draws over nothing."""

    def resume(self) -> None:
        """It was never paused."""

    def close(self) -> None:
        if self._text:
            print(f"{self._name}: {self._text}", file=sys.stderr, flush=True)
