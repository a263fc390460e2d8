"""Find the settings of `logging` that a job needs to log as the session does.

A script calls ``logging.basicConfig(level=logging.INFO)`` at its top level, which a job does not run.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Container, Iterable, Iterator
from typing import Any


class LogSetting:
    """A call that a job makes before it loads the function."""

    def __init__(self, call: Any, *args: object) -> None:
        self._call, self._args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call, self._args


def log_settings(modules: Container[str], sources: Iterable[bytes], own: Iterable[str]) -> tuple[LogSetting, ...]:
    """Return the settings of the session, if the function or its local modules log anything.

    Parameters
    ----------
    modules : container of str
        Modules that the function refers to.
    sources : iterable of bytes
        The files of its local modules.
    own : iterable of str
        The names of the user's modules. The levels of their loggers are settings, too.
    """
    if "logging" not in modules and not any(b"logging" in source for source in sources):
        return ()
    return (*_root(), *_levels({"__main__", *own}))


def _root() -> Iterator[LogSetting]:
    """Yield the settings of the root logger, if it writes to the terminal or notebook."""
    handler = next(filter(_is_shown, logging.root.handlers), None)
    if handler is None:
        return
    formatter = handler.formatter
    options: dict[str, Any] = {"level": max(logging.root.level, handler.level)}
    # A formatter of another class may need a package, or colours that a log does not show.
    if type(formatter) is logging.Formatter:
        options |= {"format": formatter._fmt, "datefmt": formatter.datefmt, "style": _style(formatter)}
    yield LogSetting(functools.partial(logging.basicConfig, **options))


def _is_shown(handler: logging.Handler) -> bool:
    # rich's handler writes to a console. Those of pytest and of files are not what the user reads.
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return hasattr(handler, "console") or getattr(handler, "stream", streams) in streams


def _style(formatter: logging.Formatter) -> str:
    styles = {"StringTemplateStyle": "$", "StrFormatStyle": "{"}
    return styles.get(type(formatter._style).__name__, "%")


def _levels(own: set[str]) -> Iterator[LogSetting]:
    """Yield the levels that the session gave to loggers of the user's modules."""
    tops = {name.partition(".")[0] for name in own}
    for name, logger in sorted(logging.root.manager.loggerDict.items()):
        # A placeholder stands for the parent of a logger.
        if isinstance(logger, logging.Logger) and logger.level and name.partition(".")[0] in tops:
            yield LogSetting(logging.Logger.setLevel, logger, logger.level)
