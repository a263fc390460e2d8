"""Lines that tell what a Knot is waiting for while it is made, where a person looks on and it takes a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloudknot.display.progress import wanted

SOON = 1.0
"""Seconds that a stage may take without a word."""


class Stages:
    """The stages of making something called ``name``: each that takes longer than ``soon`` seconds is announced."""

    def __init__(self, name: str, soon: float = SOON) -> None:
        self._name, self._soon, self._shown = name, soon, wanted(None)
        self._begun, self._said = time.monotonic(), False

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Announce ``what`` unless the block ends soon."""
        timer = threading.Timer(self._soon, self._say, [f"{what} ..."])
        timer.daemon = True
        if self._shown:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def ready(self) -> None:
        """Tell that it is made, if anything was told."""
        if self._said:
            self._say(f"ready after {time.monotonic() - self._begun:.0f} s")

    def _say(self, text: str) -> None:
        self._said = True
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)
