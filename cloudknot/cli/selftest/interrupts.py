"""Turn signals into one KeyboardInterrupt during the steps, and into a line of text during the removal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

# Windows has no SIGHUP.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals after which the check removes its resources: Ctrl-C, `kill`, and a closed terminal."""
ENOUGH = 3
"""Number of signals during the removal after which it ends."""


class Interrupts:
    """The handlers of `SIGNALS`, as a context manager.

    The first signal raises KeyboardInterrupt. From then on, or from `begin_removal` on, the removal of resources runs:
    the next signals only print ``text``, and the third one raises KeyboardInterrupt again.
    """

    def __init__(self, say: Callable[[str], None], text: str) -> None:
        self._say, self._text = say, text
        self._removing, self._ignored = False, 0
        self._before: dict[int, object] = {}

    def begin_removal(self) -> None:
        """Let the next signals interrupt nothing."""
        self._removing = True

    def __enter__(self) -> Interrupts:
        # Python accepts handlers in the main thread only. Elsewhere, nobody can press Ctrl-C.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that no Python code has set.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._removing:
            # Here, so that a second Ctrl-C cannot come between the first one and the removal.
            self._removing = True
            raise KeyboardInterrupt
        self._ignored += 1
        if self._ignored >= ENOUGH:
            raise KeyboardInterrupt
        self._say(self._text)
