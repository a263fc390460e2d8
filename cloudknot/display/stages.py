"""Lines that name the current stage while a Knot is created. They appear if a user watches and a stage is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloudknot.display.progress import is_shown
from cloudknot.options import streams

DELAY = 1.0
"""Seconds before a running stage is announced."""


class Stages:
    """The stages in the creation of the knot ``name``. Each one is announced after ``delay`` seconds."""

    def __init__(self, name: str, delay: float = DELAY) -> None:
        self._name, self._delay, self._shown = name, delay, is_shown(None)
        self._start, self._announced = time.monotonic(), False

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Announce the stage unless the block ends before the delay."""
        timer = threading.Timer(self._delay, self._announce, [f"{description} ..."])
        # A timer that has not fired yet does not hold up the end of the script.
        timer.daemon = True
        if self._shown:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def ready(self) -> None:
        """Report that the knot is ready, if a stage was announced."""
        if self._announced:
            self._announce(f"ready after {time.monotonic() - self._start:.0f} s")

    def _announce(self, text: str) -> None:
        self._announced = True
        streams.write_line(f"{self._name}: {text}")
