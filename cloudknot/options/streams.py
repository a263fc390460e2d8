"""Write to the user's standard error, and ask whether it is a terminal. Nothing here raises because of a stream.

A program without a console (a daemon, a GUI, pythonw) has streams that are None, closed, or lack methods. A map is
submitted before its progress appears, so an error of a stream would lose the future of a job that costs money.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    LogAdapter = logging.LoggerAdapter[logging.Logger]
else:
    LogAdapter = logging.LoggerAdapter

NOTICE = "#d9a400"
"""The colour beside a message in a notebook, light or dark."""


def is_terminal(stream: object) -> bool:
    """Return whether a stream is a terminal. False for a stream that is None, closed, or cannot answer."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:
        return False


def write_line(text: str) -> None:
    """Write a line to standard error. The line is lost if the stream cannot take it."""
    with suppress(Exception):
        print(text, file=sys.stderr, flush=True)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning about the line of the user that called cloudknot. It is lost if standard error is closed.

    Raises the warning where the user's filters make an error of it.
    """
    try:
        warnings.warn(message, category, _calls_inside())
    except Warning:
        raise
    except Exception:
        # Python itself ignores a standard error that is None, but not one that is closed.
        return


def _calls_inside() -> int:
    """Return the ``stacklevel`` of the first caller outside cloudknot, for a warning of the caller."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__", "")).startswith("cloudknot."):
        level, frame = level + 1, frame.f_back
    return level


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    # IPython is not imported: a kernel has it loaded already, and a script need not load it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _show_in_notebook(text: str) -> None:
    """Show a message in the output of the current cell."""
    from html import escape

    from IPython import display

    html = f'<div style="border-left:3px solid {NOTICE};padding-left:8px">{escape(text)}</div>'
    display.display({"text/plain": text, "text/html": html}, raw=True)  # type: ignore[no-untyped-call,unused-ignore]


class SafeStderr(io.TextIOBase):
    """Standard error as a file for rich. What the present `sys.stderr` cannot take is lost."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of standard error."""
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text."""
        with suppress(Exception):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush standard error."""
        # Python calls this at its end, when the names of this module are gone: `suppress` is None by then.
        try:
            sys.stderr.flush()
        except BaseException:
            return

    def isatty(self) -> bool:
        """Return whether standard error is a terminal."""
        return is_terminal(sys.stderr)

    def fileno(self) -> int:
        """Return the number of standard error's file. Raises `OSError` if it has none."""
        try:
            return sys.stderr.fileno()
        except Exception as error:
            raise io.UnsupportedOperation("standard error has no file") from error


stderr = cast("TextIO", SafeStderr())
"""Standard error for `rich.console.Console`."""


class SafeLog(LogAdapter):
    """A logger whose handlers may fail. `logging` reports such a failure on standard error, which may be closed."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message. The message is lost if its handler fails."""
        # One level more, so that the record names the caller and not this function.
        options: Mapping[str, Any] = {**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1}
        with suppress(Exception):
            # Without handlers of the user, the text would go to standard error, which is a red box in a notebook.
            if level >= logging.WARNING and not self.logger.hasHandlers() and in_notebook():
                _show_in_notebook(str(msg) % args if args else str(msg))
                return
            super().log(level, msg, *args, **options)


logger = SafeLog(logging.getLogger("cloudknot"), {})
"""The logger of this library, for everything outside a job."""
