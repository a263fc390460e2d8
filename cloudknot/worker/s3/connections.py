"""Connections for plain S3 requests: a small one of our own without TLS, and that of `http.client` with TLS."""

# Importing http.client, with the modules for e-mail and TLS behind it, takes 4 MB of memory, and each fork of a
# process costs time for its memory. In a process that was forked for a single element, its requests touch 100 pages
# more than these, and each page must be copied. On AWS all connections have TLS, and so are those of http.client.

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from ..wire.buffers import Buffer

if TYPE_CHECKING:
    import ssl

    from _typeshed import WriteableBuffer

LONGEST_HEAD = 64 * 1024
"""Bytes of the longest head of an answer."""
AT_ONCE = 64 * 1024
"""Bytes that are read at a time while the length of an answer is unknown, and sent in one piece with the head."""
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: .*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")


class S3Answer(Protocol):
    """An answer whose head has been read. Names of headers are in lower case, or compared without regard to it."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def read(self) -> bytes: ...
    def readinto(self, buffer: WriteableBuffer, /) -> int: ...
    def close(self) -> None: ...


class S3Connection(Protocol):
    """A connection to one server, with one request at a time. ``sock`` is None once the connection has ended."""

    sock: socket.socket | None

    def connect(self) -> None: ...
    def request(
        self, method: str, target: str, body: Buffer | Iterable[Buffer] | None, headers: Mapping[str, str], /
    ) -> None: ...
    def getresponse(self) -> S3Answer: ...
    def close(self) -> None: ...


def connection_to(host: str, timeout: float) -> S3Connection:
    """Return a connection without TLS to a host with its port. It begins with ``connect``."""
    return _OwnConnection(host, timeout)


def tls_connection_to(host: str, timeout: float, context: ssl.SSLContext) -> S3Connection:
    """Return a connection with TLS to a host with its port. It begins with ``connect``."""
    from http.client import HTTPSConnection

    return cast(S3Connection, HTTPSConnection(host, timeout=timeout, context=context))


def is_lost(error: Exception) -> bool:
    """Return whether a connection raises such an error for an answer that did not arrive, or is malformed."""
    library = sys.modules.get("http.client")
    return isinstance(error, OSError) or (library is not None and isinstance(error, library.HTTPException))


class MalformedError(OSError):
    """A message that this client of HTTP/1.1 does not send or understand."""


class _OwnConnection:
    """A connection without TLS, by HTTP/1.1. All bodies have a length in their head."""

    def __init__(self, host: str, timeout: float) -> None:
        name, _, port = host.rpartition(":")
        self._address = (name.strip("[]"), int(port)) if port.isdecimal() and name else (host.strip("[]"), 80)
        self._timeout = timeout
        self.sock: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the server. Raises OSError if it does not accept the connection in time."""
        if self._address[0] == "127.0.0.1":
            # Without a look-up of the name.
            self.sock = socket.socket()
            self.sock.settimeout(self._timeout)
            self.sock.connect(self._address)
        else:
            self.sock = socket.create_connection(self._address, self._timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(
        self, method: str, target: str, body: Buffer | Iterable[Buffer] | None, headers: Mapping[str, str], /
    ) -> None:
        """Send a request. The length of a body must be in the headers."""
        lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
        if not all(line.isprintable() for line in lines) or lines[0].count(" ") != 2:
            raise MalformedError("A head contains a control character, or its first line a space.")
        head = "\r\n".join([*lines, "Accept-Encoding: identity", "", ""]).encode("latin-1")
        # The event of http.client, for everything that watches the requests of this process.
        sys.audit("http.client.send", self, head)
        pieces: Iterable[Buffer]
        if isinstance(body, bytes | bytearray | memoryview):
            is_small = len(body) <= AT_ONCE
            pieces = (b"".join((head, body)),) if is_small else (head, body)
        else:
            pieces = (head, *(body or ()))
        for piece in pieces:
            self._socket.sendall(piece)

    def getresponse(self) -> S3Answer:
        """Return the answer, after its head has arrived."""
        return _OwnAnswer(self._socket, self.close)

    def close(self) -> None:
        """Close the connection."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    @property
    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise ConnectionResetError("the connection has ended")
        return self.sock


class _OwnAnswer:
    """An answer with a length.

    Attributes
    ----------
    status : int
    headers : mapping
        By names in lower case.
    """

    def __init__(self, sock: socket.socket, end: Callable[[], None]) -> None:
        self._sock, self._end = sock, end
        head, self._first = self._head()
        lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(lines[0])
        if match is None:
            raise MalformedError("The answer does not begin with a status of HTTP/1.1.")
        self.status, self.headers = int(match[1]), _headers(lines[1:])
        length = self.headers.get("content-length", "0" if self.status in (204, 304) else "")
        if not _LENGTH.fullmatch(length) or "transfer-encoding" in self.headers:
            raise MalformedError("The answer has no length.")
        self._left = int(length)
        if len(self._first) > self._left:
            raise MalformedError("More data than the answer has arrived.")
        self._is_last = self.headers.get("connection", "").lower() == "close"

    def _head(self) -> tuple[bytes, bytes]:
        """Return the head, and the first bytes of the body."""
        data = b""
        while b"\r\n\r\n" not in data:
            received = self._sock.recv(AT_ONCE)
            data += received
            if not received or len(data) > LONGEST_HEAD + AT_ONCE:
                raise MalformedError("The answer broke off in its head, or its head is too long.")
        head, _, first = data.partition(b"\r\n\r\n")
        return head, first

    def read(self) -> bytes:
        """Return the rest of the body. Raises OSError if it breaks off."""
        if len(self._first) == self._left:
            data, self._first, self._left = self._first, b"", 0
            return data
        rest = bytearray(self._left)
        with memoryview(rest) as view:
            filled = 0
            while filled < len(rest):
                count = self.readinto(view[filled:])
                if not count:
                    raise MalformedError("The answer broke off.")
                filled += count
        return bytes(rest)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes of the body into a buffer, and return their number; 0 at the end, or if the answer breaks off."""
        view = memoryview(buffer).cast("B")[: self._left]
        if self._first:
            count = min(len(self._first), len(view))
            view[:count] = self._first[:count]
            self._first = self._first[count:]
        else:
            count = self._sock.recv_into(view) if view else 0
        self._left -= count
        return count

    def close(self) -> None:
        """End the answer, and the connection if the server keeps it no longer."""
        if self._is_last:
            self._end()


def _headers(lines: Iterable[bytes]) -> dict[str, str]:
    """Return headers by names in lower case."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.lower()
        # A second one, or a folded line, could be read in two ways.
        if not colon or name in headers or name != name.strip():
            raise MalformedError("A header of the answer is malformed.")
        headers[name] = value.strip(" \t")
    return headers
