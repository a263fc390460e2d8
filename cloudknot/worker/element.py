"""Call the function for one element, and put the outcome into an envelope."""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import cast

from .program.load import Function, explain_missing_file, show_source
from .wire.buffers import PieceFile, Pieces, Unreadable, size_of
from .wire.by_value import PYTHON
from .wire.container import attempt_number
from .wire.failure import EXITED, NOT_LOADED, RAISED, UNPICKLABLE, UNREADABLE, VALUE, Failure, add_note
from .wire.objects.exceptions import message_of, pickle_exception
from .wire.objects.reducers import ValuePickler
from .wire.pack import Envelope
from .wire.seal import UnusableError

LARGE_VALUE = 1024 * 1024
"""Bytes of the largest pickle that is joined at once."""
Load = Callable[[], object]
"""Returns the input of an element. Raises any exception that unpickling it raises."""
# getrusage reports bytes on macOS, and kibibytes on Linux.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Stopped(BaseException):
    """Batch asked the process to end (SIGTERM)."""

    # Not an Exception, so that the user's ``except Exception`` does not catch it.


class StopSignal:
    """The reaction to SIGTERM: it ends the function immediately, but lets an upload finish."""

    def __init__(self) -> None:
        self._received, self._uploads = False, 0

    def receive(self) -> None:
        """Raise `Stopped` now, or when the current upload has finished."""
        self._received = True
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if SIGTERM has arrived and no upload is running."""
        # Called after every element too, because the function may swallow `Stopped` or turn it into another exception.
        if self._received and not self._uploads:
            raise Stopped

    def deferred(self) -> StopSignal:
        """Return a context that defers SIGTERM until its block ends, even if the function swallowed `Stopped`."""
        # Results that are already computed would otherwise be lost with the interrupted upload. Not a generator: in a
        # process that was forked for one element, each object of contextlib is on a page that must be copied.
        return self

    def __enter__(self) -> None:
        self._uploads += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._uploads -= 1
        if kind is None:
            self.check()


stop_signal = StopSignal()
"""The state of this process. Python delivers signals in the main thread, which also runs the function."""


class SourceFailed(Exception):
    """The element has no input, because an element of the source run failed."""

    def __init__(self, kind: int, failure: Failure) -> None:
        super().__init__(failure.source)
        self.kind, self.failure = kind, failure


def run_element(function: Function, load: Load, starmap: bool) -> Envelope:
    """Call the function with the input from ``load``, and return its outcome.

    Any exception becomes a failure, except `Stopped` and `Unreadable`, which are not the function's fault.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    pieces: Pieces = ()
    try:
        argument = _loaded(load)
        value = function(*cast("Iterable[object]", argument)) if starmap else function(argument)
    except (Stopped, Unreadable):
        raise
    except SourceFailed as error:
        kind, payload = error.kind, error.failure.to_bytes()
    except SystemExit as error:
        stop_signal.check()
        kind, payload = EXITED, failure_of(EXITED, error).to_bytes()
    except BaseException as error:
        stop_signal.check()
        # The first frame is this function, of no interest to the user.
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        show_source()
        explain_missing_file(error)
        _print_traceback(error)
        kind, payload = RAISED, failure_of(RAISED, error).to_bytes()
    else:
        # The input is released, so that it does not take memory while the value is pickled.
        argument = None
        kind, payload, pieces = _pickle_value(value)
    return Envelope(kind, payload, time.perf_counter() - wall, time.process_time() - cpu, peak_memory(), pieces)


def _loaded(load: Load) -> object:
    """Return the input. Raises `SourceFailed` if it cannot be used."""
    try:
        return load()
    except UnusableError as error:
        print(f"The input {error}.", file=sys.stderr)
        raise SourceFailed(UNREADABLE, failure_of(UNREADABLE, error)) from error


def _print_traceback(error: BaseException) -> None:
    # Output that finds no space on the disk must not cost the other elements of the child.
    with suppress(OSError):
        traceback.print_exception(error)


def _pickle_value(value: object) -> tuple[int, bytes, Pieces]:
    """Return the kind of the outcome, its payload if it is small, and its pieces if it is large."""
    file = PieceFile()
    # The standard pickler would import the module of a class that travelled by value, and so run its code.
    try:
        ValuePickler(file, protocol=5, buffer_callback=file.take).dump(value)
    except Stopped:
        raise
    except BaseException as error:
        stop_signal.check()
        _print_traceback(error)
        add_note(error, f"The result has the type {type(value).__module__}.{type(value).__qualname__}.")
        return UNPICKLABLE, failure_of(UNPICKLABLE, error).to_bytes(), ()
    pieces = file.pieces()
    # A large value is stored from its own memory, without a copy.
    return (VALUE, b"", pieces) if size_of(pieces) > LARGE_VALUE else (VALUE, b"".join(pieces), ())


def not_loaded(error: BaseException) -> Envelope:
    """Return the outcome of every element of a child if the program cannot be loaded."""
    return Envelope(NOT_LOADED, failure_of(NOT_LOADED, error).to_bytes(), 0.0, 0.0, peak_memory())


def failure_of(kind: int, error: BaseException) -> Failure:
    """Return the failure that describes an exception, with the exception itself if it can travel."""
    text = "".join(traceback.format_exception(error))
    code = _exit_code(error) if isinstance(error, SystemExit) else None
    pickled = b""
    if kind == RAISED:
        with stop_signal.deferred():
            pickled = pickle_exception(error)
    attempt = attempt_number(os.environ)
    return Failure(
        kind, type(error).__qualname__, message_of(error), text, code, pickled, attempt=attempt, python=PYTHON
    )


def _exit_code(error: SystemExit) -> int:
    """Return the exit code that the interpreter would use, as the documentation of `sys.exit` says."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
