"""The transfer of attempts' output from files to CloudWatch Logs, during the attempt and after its end.

The names are those of AWS Batch. The log group is the job definition's ``awslogs-group``, by default
``/aws/batch/job``. The log stream is the attempt's ``logStreamName``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudknot.aws.batch import LOG_GROUP, LONGEST_MESSAGE
from cloudknot.local.batch.records import Task

GROUP = LOG_GROUP
INTERVAL = 0.5
"""Seconds between two reads of a running attempt's output."""
TRIES = 20
"""Passes in which the rest of an ended attempt's output is shipped, if CloudWatch Logs fails."""
MAX_EVENTS = 10_000
MAX_BATCH = 1_048_576
"""Events, and their bytes, in one call or answer (CloudWatch Logs API reference, "PutLogEvents")."""
EVENT_OVERHEAD = 26
"""Bytes that each event counts besides its message."""
READ_SIZE = 4 * 1024 * 1024
"""Bytes that are read and shipped at a time."""
CLOSE_TIMEOUT = 10.0
"""Seconds for the rest of the output when the cloud stops."""

_log = logging.getLogger(__name__)

Append = Callable[[str, str, Sequence[str]], None]
"""``append(group, stream, messages)``: stores messages in a log stream, which it creates if it is missing."""


@dataclass(eq=False)
class _Tail:
    """The output file of an attempt.

    ``offset`` is the number of bytes that have been shipped, ``failures`` the number of passes that have failed.
    """

    group: str
    stream: str
    path: Path
    offset: int = 0
    ended: bool = False
    failures: int = 0


class LogShipper:
    """A thread that ships output files to CloudWatch Logs.

    Parameters
    ----------
    append : callable
        Stores messages in a log stream.
    """

    def __init__(self, append: Append) -> None:
        self._append = append
        self._changed = threading.Condition()
        self._tails: dict[str, _Tail] = {}
        self._ended: list[_Tail] = []
        self._again: list[_Tail] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-shipper", daemon=True)
        self._thread.start()

    def follow(self, task: Task, path: Path | None) -> None:
        """Ship a task's output file from now on. With a path of None, ship the rest and delete the file."""
        with self._changed:
            if path is not None:
                # With no attempt to follow, the thread sleeps without a timeout.
                if not self._tails:
                    self._changed.notify_all()
                self._tails[task.id] = _Tail(task.log_group, task.log_stream, path)
            elif task.id in self._tails:
                self._end(self._tails.pop(task.id))

    def close(self) -> None:
        """Ship the rest of all output, within 10 seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            _log.error("The cloud stopped before all output of its jobs was in CloudWatch Logs. The logs are cut.")

    def _end(self, tail: _Tail) -> None:
        # An attempt that prints nothing costs no request.
        if _size(tail.path) > tail.offset:
            tail.ended = True
            self._ended.append(tail)
            self._changed.notify_all()
        else:
            tail.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._ended and not self._closed:
                    self._changed.wait(INTERVAL if self._tails or self._again else None)
                tails = [*self._again, *self._ended, *self._tails.values()]
                self._again, self._ended = [], []
                closed = self._closed
            for tail in tails:
                self._ship(tail)
            if closed:
                return

    def _ship(self, tail: _Tail) -> None:
        # Read before the file. An attempt that ends during this pass may print more, and the next pass ships that.
        ended = tail.ended
        try:
            while _size(tail.path) > tail.offset and self._ship_next(tail):
                pass
        except FileNotFoundError:
            return
        except Exception:
            # The thread must go on, because it also ships the output of all other attempts.
            tail.failures += 1
            self._note_failure(tail)
            return
        if ended:
            with contextlib.suppress(OSError):
                tail.path.unlink()

    def _note_failure(self, tail: _Tail) -> None:
        """Log the current exception, and let the next pass ship the rest of an ended attempt."""
        if tail.failures < TRIES and tail.ended:
            self._again.append(tail)
        place = f" The rest stays in {tail.path}." if tail.ended and tail.failures == TRIES else ""
        _log.exception("Cannot ship the output of %s to CloudWatch Logs.%s", tail.stream, place)

    def _ship_next(self, tail: _Tail) -> bool:
        """Ship the next piece of a file. Return False if it has no complete line to ship."""
        with tail.path.open("rb") as stream:
            stream.seek(tail.offset)
            data = stream.read(READ_SIZE)
        size = len(data)
        is_rest = tail.ended and size < READ_SIZE
        if not is_rest:
            # A line that is still being written waits for its end: an event is a line. A full buffer cannot wait.
            size = data.rfind(b"\n") + 1 or (_size_of_whole_pieces(data) if size == READ_SIZE else 0)
        for batch, shipped in batches(data[:size]):
            if batch:
                self._append(tail.group, tail.stream, batch)
            # After each call, so that a failure of the next one repeats nothing.
            tail.offset += shipped
        return size > 0


def batches(data: bytes) -> Iterator[tuple[list[str], int]]:
    """Yield the lines of ``data`` without the empty ones, in batches for one PutLogEvents call each.

    A line that is longer than an event permits becomes several messages, all but the last of full length.

    Yields
    ------
    batch : list of str
        The messages. The last batch may have none.
    size : int
        Number of bytes of ``data`` for the batch, with the ends of its lines.
    """
    batch: list[str] = []
    size = taken = 0
    for line in data.splitlines(keepends=True):
        for piece in pieces(line):
            message = piece.rstrip(b"\r\n")
            if len(batch) == MAX_EVENTS or size + len(message) + EVENT_OVERHEAD > MAX_BATCH:
                yield batch, taken
                batch, size, taken = [], 0, 0
            taken += len(piece)
            if message:
                batch.append(message.decode(errors="replace"))
                size += len(message) + EVENT_OVERHEAD
    yield batch, taken


def pieces(line: bytes) -> Iterator[bytes]:
    """Yield the parts of a line that fit into an event. No part begins inside a character."""
    start = 0
    while len(line) - start > LONGEST_MESSAGE:
        stop = start + LONGEST_MESSAGE
        while line[stop] & 0xC0 == 0x80 and stop > start + LONGEST_MESSAGE - 4:
            stop -= 1
        # The end of a line is no message of its own.
        if not line[stop:].strip(b"\r\n"):
            break
        yield line[start:stop]
        start = stop
    yield line[start:]


def _size_of_whole_pieces(data: bytes) -> int:
    """Return the bytes of the parts of an unfinished line that have full length."""
    lines = data.splitlines(keepends=True)
    *_, rest = pieces(lines[-1])
    return len(data) - len(rest)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
