"""Run the function on one element and put the outcome into an envelope."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import cloudpickle

from .program import Function, show_source
from .s3.limits import PART_SIZE
from .wire.buffers import PieceFile, Pieces, Unreadable, size_of
from .wire.container import attempt_number
from .wire.failure import EXITED, NOT_LOADED, RAISED, UNPICKLABLE, VALUE, Failure, add_note, rebuilt
from .wire.pack import Envelope

Load = Callable[[], object]
"""Gives an element. Raises whatever unpickling it raises."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Stopped(BaseException):
    """Batch asked the process to end (SIGTERM). It passes through the user's ``except Exception``."""


class Stopping:
    """What SIGTERM does: it ends the function at once, but not what is just being stored."""

    def __init__(self) -> None:
        self._asked, self._storing = False, 0

    def ask(self) -> None:
        """End now, or when all is stored. Raises `Stopped`."""
        self._asked = True
        self.check()

    def check(self) -> None:
        """Raise `Stopped` if that was asked, also when somebody took no notice, or made another exception of it."""
        if self._asked and not self._storing:
            raise Stopped

    @contextmanager
    def after_storing(self) -> Iterator[None]:
        """What is stored meanwhile is stored whole; also for a function that took no notice of `Stopped`."""
        self._storing += 1
        try:
            yield
        finally:
            self._storing -= 1
        self.check()


stopping = Stopping()
"""Of this process, whose main thread gets signals and runs the function."""


class PassedOn(Exception):
    """The element has no argument, because the element of another run that would give it failed."""

    def __init__(self, kind: int, failure: Failure) -> None:
        super().__init__(failure.source)
        self.kind, self.failure = kind, failure


def dumps(value: object) -> bytes:
    """Pickle a value.

    By cloudpickle: the plain pickler would import the module of a class that travelled by value, and run its code.
    """
    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


def run_element(function: Function, load: Load, starmap: bool) -> Envelope:
    """Call the function on what ``load`` gives. Whatever it does short of ending the process becomes an envelope."""
    wall, cpu = time.perf_counter(), time.process_time()
    pieces: Pieces = ()
    try:
        argument = load()
        value = function(*cast("Iterable[object]", argument)) if starmap else function(argument)
    except (Stopped, Unreadable):
        raise
    except PassedOn as error:
        kind, payload = error.kind, error.failure.to_bytes()
    except SystemExit as error:
        stopping.check()
        kind, payload = EXITED, describe(EXITED, error).to_bytes()
    except BaseException as error:
        stopping.check()
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        show_source()
        traceback.print_exc()
        kind, payload = RAISED, describe(RAISED, error).to_bytes()
    else:
        # It is pickled from the value itself, of which nothing else need be held meanwhile.
        argument = None
        kind, payload, pieces = _pickle_value(value)
    return Envelope(kind, payload, time.perf_counter() - wall, time.process_time() - cpu, peak_memory(), pieces)


def _pickle_value(value: object) -> tuple[int, bytes, Pieces]:
    """The kind of the outcome, and its payload: the second one where it is large."""
    file = PieceFile()
    try:
        cloudpickle.Pickler(file, protocol=5, buffer_callback=file.take).dump(value)
    except Stopped:
        raise
    except BaseException as error:
        stopping.check()
        traceback.print_exc()
        add_note(error, f"the result was of type {type(value).__module__}.{type(value).__qualname__}")
        return UNPICKLABLE, describe(UNPICKLABLE, error).to_bytes(), ()
    pieces = file.pieces()
    # No copy is made of what takes more than one part to store.
    return (VALUE, b"", pieces) if size_of(pieces) > PART_SIZE else (VALUE, b"".join(pieces), ())


def not_loaded(error: BaseException) -> Envelope:
    """What every element of a child gets when the program itself cannot be loaded."""
    return Envelope(NOT_LOADED, describe(NOT_LOADED, error).to_bytes(), 0.0, 0.0, peak_memory())


def describe(kind: int, error: BaseException) -> Failure:
    """An exception in words, with the exception itself where it can travel."""
    text = "".join(traceback.format_exception(error))
    code = _exit_code(error) if isinstance(error, SystemExit) else None
    pickled = _pickle_exception(error) if kind == RAISED else b""
    attempt = attempt_number(os.environ)
    return Failure(kind, type(error).__qualname__, _message(error), text, code, pickled, attempt=attempt)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _exit_code(error: SystemExit) -> int:
    """The exit code that the interpreter would give: sys.exit's documentation."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _pickle_exception(error: BaseException) -> bytes:
    """The pickled exception, or nothing when it does not survive the journey.

    An exception class whose ``__init__`` takes other arguments than it passes on pickles well and unpickles badly, so
    the way back is tried here. Where it fails, the parts travel, of its attributes those that can.
    """
    try:
        data = dumps(error)
        if _alike(pickle.loads(data), error):
            return data
    except Stopped:
        raise
    except BaseException:
        pass
    try:
        data = dumps((type(error), error.args, {k: v for k, v in vars(error).items() if _travels(v)}))
        return data if _alike(rebuilt(*pickle.loads(data)), error) else b""
    except Stopped:
        raise
    except BaseException:
        return b""


def _alike(copy: BaseException, error: BaseException) -> bool:
    # An __init__ that makes the message of its arguments makes another one of the message.
    return type(copy).__qualname__ == type(error).__qualname__ and _message(copy) == _message(error)


def _travels(value: object) -> bool:
    try:
        pickle.loads(dumps(value))
    except Stopped:
        raise
    except BaseException:
        return False
    return True


def peak_memory() -> int:
    """Bytes: the largest resident size that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
