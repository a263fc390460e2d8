"""Connections, their time limits, and the choice of those to close when there are too many."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any
from wsgiref.types import WSGIEnvironment

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from cloudknot.local.server.http.parser import Admit, Parser
from cloudknot.local.wsgi import ADMISSION


@dataclass(frozen=True)
class Limits:
    """How many connections may be open, and how long a client may keep one waiting.

    Attributes
    ----------
    connections : int
        Connections at a time. A further one takes the place of an idle one.
    head : float
        Seconds in which the head of a request must arrive, and the first byte after a connection begins.
    stall : float
        Seconds without a byte after which a half-sent body, or an answer that the client does not read, is given up.
    slowest : float
        Bytes a second that a body must have on average, after ``stall`` seconds.
    idle : float
        Seconds that a connection may stay open between two requests. Clients keep connections for their next request.
    check : int
        Seconds between two checks.
    """

    connections: int
    head: float = 20.0
    stall: float = 60.0
    slowest: float = 1024.0
    idle: float = 600.0
    check: int = 5


class AnswerTask(WSGITask):  # type: ignore[misc]
    """The answer to one request."""

    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        environ[ADMISSION] = self.request.admission
        return environ

    def execute(self) -> None:
        super().execute()
        # The client has shown a key or a token of this cloud.
        self.channel.is_trusted = self.channel.is_trusted or self.status.startswith("2")


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = AnswerTask
    is_trusted = False
    """Whether a request over this connection has succeeded."""

    def __init__(self, admit: Admit, *arguments: Any, **choices: Any) -> None:
        self.parser_class = partial(_parser, admit)
        self._requested = time.time()
        super().__init__(*arguments, **choices)

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self._requested = time.time()
        return bool(super().received(data))

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Return whether the client has kept this connection waiting for too long."""
        # Read once: another thread may set it to None.
        request, silence = self.request, now - self.last_activity
        if self.total_outbufs_len:
            return bool(silence > limits.stall)
        if self.requests:
            return False
        if request is None:
            return bool(silence > (limits.idle if self.is_trusted else limits.head))
        taken = now - self._requested
        if not request.headers_finished:
            return taken > limits.head
        is_slow = taken > limits.stall and request.body_bytes_received < limits.slowest * taken
        return bool(silence > limits.stall or is_slow)


def _parser(admit: Admit, adjustments: Any) -> Parser:
    return Parser(adjustments, admit)


def least_useful(channels: Iterable[Channel]) -> Channel | None:
    """Return the connection to close in favour of a new one, or None if every one is being answered."""
    # First those of clients that have shown no key, and of these the one that has been silent for the longest time.
    waiting = (channel for channel in channels if not channel.requests and not channel.total_outbufs_len)
    return min(waiting, key=lambda channel: (channel.is_trusted, channel.last_activity), default=None)
