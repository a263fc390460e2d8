"""Connections, their time limits, and the choice of those to close when there are too many."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel

from cloudknot.local.server.http.answers import AnswerTask
from cloudknot.local.server.http.parser import Admit, Parser
from cloudknot.local.wsgi import Segment

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT_ONCE = 1 << 23
"""Bytes that the kernel is asked to copy from a file at a time."""


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


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection.

    The thread of the server reads heads and small bodies, and the thread that answers a request reads a large body.
    The other one does not touch the socket meanwhile.
    """

    task_class = AnswerTask
    is_trusted = False
    """Whether a request over this connection has succeeded."""
    is_receiving = False
    """Whether a thread waits for a large body."""

    def __init__(self, server: Any, *arguments: Any, **choices: Any) -> None:
        self.parser_class = partial(_parser, server.admit)
        self._requested = time.time()
        self._body_size, self._waited = 0, 0.0
        super().__init__(server, *arguments, **choices)

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self._requested = time.time()
        return bool(super().received(data))

    def service(self) -> None:
        self._body_size, self._waited = 0, 0.0
        super().service()

    @property
    def is_idle(self) -> bool:
        """Whether this connection waits for a request. Its state then changes in the server's thread only."""
        # The requests first: the thread that answers one removes it last.
        return not (self.requests or self.total_outbufs_len or self.will_close or self.close_when_flushed)

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

    def drop(self) -> None:
        """Close the connection, also under a thread that waits for a large body."""
        if self.is_receiving:
            # That thread then ends the request. Its socket must stay open until then: a closed one's number may
            # already belong to another connection.
            self.is_receiving = False
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        else:
            self.handle_close()

    # The methods below are for the thread that answers a request.

    def request_body(self) -> None:
        """Ask a client that waits for it to send the body."""
        self.write_soon(_CONTINUE)

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes of a large body, and return their number, at least one."""
        size: int | None = None
        while size is None:
            try:
                size = self.socket.recv_into(buffer)
            except BlockingIOError:
                self.is_receiving = True
                self._wait(select.POLLIN)
                self.is_receiving = False
                self._check_pace()
            except OSError as error:
                raise ClientDisconnected from error
        if not size:
            raise ClientDisconnected
        self._body_size += size
        self.last_activity = time.time()
        return size

    def flush(self) -> None:
        """Wait until everything that was written has been sent."""
        while self.total_outbufs_len:
            with self.outbuf_lock:
                if not self.connected:
                    raise ClientDisconnected
                self._flush_some(do_close=False)
            if self.total_outbufs_len:
                self._wait(select.POLLOUT)

    def send_file(self, segment: Segment) -> None:
        """Send a range of a file. The kernel copies it to the socket."""
        offset, end = segment.offset, segment.offset + segment.length
        source = segment.file.fileno()
        while offset < end:
            try:
                sent = os.sendfile(self.socket.fileno(), source, offset, min(end - offset, _AT_ONCE))
            except BlockingIOError:
                self._wait(select.POLLOUT)
                continue
            except ConnectionError as error:
                raise ClientDisconnected from error
            if not sent:
                raise EOFError(f"A file of an object ends before byte {end}.")
            offset += sent
            self.last_activity = time.time()

    def _wait(self, event: int) -> None:
        """Wait until the client has sent or read something."""
        started = time.monotonic()
        poll = select.poll()
        with self.server.task_dispatcher.replaced():
            poll.register(self.socket, event)
            events = poll.poll(1000 * self.server.limits.stall)
        self._waited += time.monotonic() - started
        # A client that has sent its last bytes may have closed the connection, and they can still be read.
        is_lost = event == select.POLLOUT and events and not events[0][1] & select.POLLOUT
        if not events or is_lost or not self.connected:
            raise ClientDisconnected

    def _check_pace(self) -> None:
        limits: Limits = self.server.limits
        if self._waited > limits.stall and self._body_size < limits.slowest * self._waited:
            raise ClientDisconnected


def _parser(admit: Admit, adjustments: Any) -> Parser:
    return Parser(adjustments, admit)


def least_useful(channels: Iterable[Channel]) -> Channel | None:
    """Return the connection to close in favour of a new one, or None if every one is being answered."""
    # First those of clients that have shown no key, and of these the one that has been silent for the longest time.
    waiting = (
        channel for channel in channels if channel.is_receiving or not (channel.requests or channel.total_outbufs_len)
    )
    return min(waiting, key=lambda channel: (channel.is_trusted, channel.last_activity), default=None)
