"""The end of the server process: by a signal, and within a limited time."""

from __future__ import annotations

import os
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signals() -> None:
    """Have SIGTERM and SIGINT raise `SystemExit` in the main thread."""
    for number in _SIGNALS:
        signal.signal(number, _exit)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT from now on."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def kill_self_after(seconds: int) -> None:
    """Have the kernel end this process after ``seconds``, even if threads hang."""
    # The fork servers then see their sockets close, kill their jobs and end as well.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def terminate() -> None:
    """End this process, from any thread, as SIGTERM does."""
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(*_: object) -> None:
    raise SystemExit(0)
