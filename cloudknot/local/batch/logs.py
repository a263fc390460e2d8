"""The output of attempts, from files to CloudWatch Logs: while they run, and the rest as they end.

Group and stream are those of AWS Batch: the job definition's ``awslogs-group``, by default ``/aws/batch/job``, and
the attempt's ``logStreamName``. An attempt that prints
nothing costs no request.
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
"""Seconds between two looks at a running attempt's output."""
MAX_EVENTS = 10_000
MAX_BATCH = 1_048_576
MAX_EVENT = 256 * 1024
EVENT_OVERHEAD = 26
"""Bytes; limits of a PutLogEvents call (CloudWatch Logs API reference, "PutLogEvents")."""
READ_SIZE = 4 * 1024 * 1024
CLOSE_TIMEOUT = 10.0

_log = logging.getLogger(__name__)

Call = Callable[..., object]
"""``call(operation, **arguments)``: one call of the CloudWatch Logs API."""


@dataclass(eq=False)
class _Tail:
    """How far an attempt's output has been shipped."""

    group: str
    stream: str
    path: Path
    offset: int = 0
    created: bool = False
    ended: bool = False


class LogShipper:
    """Ships output files from a thread of its own.

    Parameters
    ----------
    call : callable
        Makes a call to CloudWatch Logs, for example ``call("PutLogEvents", ...)``.
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
        """Follow a task's output file; with None, ship the rest of it and delete it."""
        with self._changed:
            if path is not None:
                if not self._tails:
                    self._changed.notify_all()
                self._tails[task.id] = _Tail(task.log_group, task.log_stream, path)
            elif task.id in self._tails:
                self._end(self._tails.pop(task.id))

    def close(self) -> None:
        """Ship what is left, within 10 s."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT)

    def _end(self, tail: _Tail) -> None:
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
        # Asked first: an attempt that ends while this ships has more to be shipped, by the next round.
        ended = tail.ended
        try:
            while _size(tail.path) > tail.offset and self._ship_some(tail):
                pass
        except FileNotFoundError:
            return
        except Exception:
            # Whatever it is, the output of the other attempts is still to be shipped.
            _log.exception("The output of %s could not be shipped", tail.stream)
        if ended:
            with contextlib.suppress(OSError):
                tail.path.unlink()

    def _ship_some(self, tail: _Tail) -> bool:
        """Ship what there is, whole lines only unless the attempt has ended; False when that is nothing."""
        with tail.path.open("rb") as stream:
            stream.seek(tail.offset)
            data = stream.read(READ_SIZE)
        whole = len(data) if tail.ended or len(data) == READ_SIZE else data.rfind(b"\n") + 1
        if not whole:
            return False
        now = int(time.time() * 1000)
        for batch in batches(data[:whole]):
            self._put(tail, [{"timestamp": now, "message": message} for message in batch])
        tail.offset += whole
        return True

    def _put(self, tail: _Tail, events: list[InputLogEventTypeDef]) -> None:
        where = {"logGroupName": tail.group, "logStreamName": tail.stream}
        if not tail.created:
            self._create(where)
            tail.created = True
        self._call("PutLogEvents", **where, logEvents=events)

    def _create(self, where: dict[str, str]) -> None:
        with contextlib.suppress(ResourceExistsException):
            self._call("CreateLogStream", **where)


def batches(data: bytes) -> Iterator[list[str]]:
    """The messages of some output, a line each without the empty ones, as many a batch as one call takes."""
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
