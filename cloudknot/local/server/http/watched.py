"""The sockets that the server's thread waits for. The cost of a wait does not grow with the number of connections."""

from __future__ import annotations

import select
from typing import Any

from waitress.wasyncore import readwrite

from cloudknot.local.server.http.connections import Channel

_READ = select.POLLIN | select.POLLPRI


class Watched(dict[int, Any]):
    """The sockets of a server by their descriptors: waitress's ``map``, and its loop over it.

    waitress's own loop asks every connection for its state before each wait. With the 64 connections of a client, that
    takes more time than the answers. Only the server's thread adds and removes sockets, and waits for them.
    """

    def __init__(self) -> None:
        super().__init__()
        # The kernel keeps the list of an epoll object. macOS has poll only.
        self._poll: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._milliseconds = 1 if hasattr(select, "epoll") else 1000
        self._flags: dict[int, int] = {}
        self._changing: set[int] = set()

    def __setitem__(self, descriptor: int, connection: Any) -> None:
        super().__setitem__(descriptor, connection)
        self._changing.add(descriptor)

    def __delitem__(self, descriptor: int) -> None:
        super().__delitem__(descriptor)
        self._changing.discard(descriptor)
        # Before the descriptor is closed, because its number may then belong to another socket.
        self._watch(descriptor, 0)

    def note(self, descriptor: int) -> None:
        """Ask this connection for its state before the next wait."""
        self._changing.add(descriptor)

    def wait(self, timeout: float) -> None:
        """Wait for events, and let the connections handle them."""
        for descriptor in list(self._changing):
            self._update(descriptor)
        for descriptor, event in self._poll.poll(timeout * self._milliseconds):
            connection = self.get(descriptor)
            # An earlier one of these events may have closed it.
            if connection is not None:
                self._changing.add(descriptor)
                readwrite(connection, event)

    def _update(self, descriptor: int) -> None:
        connection = self.get(descriptor)
        if connection is None:
            # Another thread has closed it since.
            self._changing.discard(descriptor)
            return
        # Asked first: a connection that is idle now changes only by an event, or in the thread of the server.
        is_idle = not isinstance(connection, Channel) or connection.is_idle
        flags = _READ if connection.readable() else 0
        if connection.writable() and not connection.accepting:
            flags |= select.POLLOUT
        self._watch(descriptor, flags)
        if is_idle:
            self._changing.discard(descriptor)

    def _watch(self, descriptor: int, flags: int) -> None:
        before = self._flags.pop(descriptor, 0)
        if flags:
            self._flags[descriptor] = flags
        if before and not flags:
            self._poll.unregister(descriptor)
        elif flags and not before:
            self._poll.register(descriptor, flags)
        elif flags != before:
            self._poll.modify(descriptor, flags)
