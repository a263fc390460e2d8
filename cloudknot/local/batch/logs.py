"""The transfer of attempts' output from files to CloudWatch Logs, during the attempt and after its end.

The names are those of AWS Batch. The log group is the job definition's ``awslogs-group``, by default
``/aws/batch/job``. The log stream is the attempt's ``logStreamName``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.aws.batch import LOG_GROUP
from cloudknot.errors import ResourceExistsException
from cloudknot.local.batch.records import Task

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import InputLogEventTypeDef

GROUP = LOG_GROUP
INTERVAL = 0.5
"""Seconds between two reads of a running attempt's output."""
# Limits of a PutLogEvents call (CloudWatch Logs API reference, "PutLogEvents"). All but MAX_EVENTS are bytes.
MAX_EVENTS = 10_000
MAX_BATCH = 1_048_576
MAX_EVENT = 256 * 1024
EVENT_OVERHEAD = 26
"""Bytes that each event counts besides its message."""
READ_SIZE = 4 * 1024 * 1024
"""Bytes that are read and shipped at a time."""
CLOSE_TIMEOUT = 10.0
"""Seconds for the rest of the output when the cloud stops."""

_log = logging.getLogger(__name__)

Call = Callable[..., object]
"""``call(operation, **arguments)``: one call of the CloudWatch Logs API."""


@dataclass(eq=False)
class _Tail:
    """The output file of an attempt. ``offset`` is the number of bytes that have been shipped."""

    group: str
    stream: str
    path: Path
    offset: int = 0
    created: bool = False
    ended: bool = False


class LogShipper:
    """A thread that ships output files to CloudWatch Logs.

    Parameters
    ----------
    call : callable
        Makes a call of CloudWatch Logs, for example ``call("PutLogEvents", ...)``.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._changed = threading.Condition()
        self._tails: dict[str, _Tail] = {}
        self._ended: list[_Tail] = []
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
                    self._changed.wait(INTERVAL if self._tails else None)
                tails, self._ended = [*self._ended, *self._tails.values()], []
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
            _log.exception("Cannot ship the output of %s to CloudWatch Logs", tail.stream)
        if ended:
            with contextlib.suppress(OSError):
                tail.path.unlink()

    def _ship_next(self, tail: _Tail) -> bool:
        """Ship the next piece of a file. Return False if it has no complete line to ship."""
        with tail.path.open("rb") as stream:
            stream.seek(tail.offset)
            data = stream.read(READ_SIZE)
        # A line that is still being written waits for its end: an event is a line. A full buffer cannot wait.
        size = len(data) if tail.ended or len(data) == READ_SIZE else data.rfind(b"\n") + 1
        if not size:
            return False
        now = int(time.time() * 1000)
        for batch in batches(data[:size]):
            self._put(tail, [{"timestamp": now, "message": message} for message in batch])
        tail.offset += size
        return True

    def _put(self, tail: _Tail, events: list[InputLogEventTypeDef]) -> None:
        names = {"logGroupName": tail.group, "logStreamName": tail.stream}
        if not tail.created:
            self._create(names)
            tail.created = True
        self._call("PutLogEvents", **names, logEvents=events)

    def _create(self, names: dict[str, str]) -> None:
        # The stream may exist, if the answer to an earlier call got lost.
        with contextlib.suppress(ResourceExistsException):
            self._call("CreateLogStream", **names)


def batches(data: bytes) -> Iterator[list[str]]:
    """Yield the lines of ``data`` without the empty ones, in batches for one PutLogEvents call each.

    A line that is longer than an event permits becomes several messages.
    """
    batch: list[str] = []
    size = 0
    for line in data.splitlines():
        for start in range(0, len(line), MAX_EVENT - EVENT_OVERHEAD):
            piece = line[start : start + MAX_EVENT - EVENT_OVERHEAD]
            if len(batch) == MAX_EVENTS or size + len(piece) + EVENT_OVERHEAD > MAX_BATCH:
                yield batch
                batch, size = [], 0
            batch.append(piece.decode(errors="replace"))
            size += len(piece) + EVENT_OVERHEAD
    if batch:
        yield batch


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
