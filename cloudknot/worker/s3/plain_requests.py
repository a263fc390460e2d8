"""A fast path for S3 requests: HTTP without boto3.

A request that does not succeed here is left to boto3. Client and worker read and store objects in this way.
"""

# boto3's own way through its service model takes three times the CPU of such a request. In a process that was forked
# for a single element, it touches so many memory pages that copying them takes most of the several milliseconds of the
# first request. botocore's own HTTP session is no alternative: with it, a small GET takes 1.7 times the CPU. For the
# same reason the signature is made by `signature`: botocore's signer touches 220 pages, and it 20. Large bodies go
# from the memory of their owner to the socket, and from the socket to that of their reader, without a copy.

from __future__ import annotations

import os
import select
import socket
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from ..wire.buffers import Pieces, size_of
from .connections import S3Answer, S3Connection, connection_to, is_lost, tls_connection_to
from .limits import CONNECT_TIMEOUT, READ_TIMEOUT
from .origin import is_from_aws
from .owners import HEADER, BucketOwners
from .range_file import Span
from .server import S3Server
from .signature import UNSIGNED, sha256_of, signed_headers

if TYPE_CHECKING:
    import ssl
    from xml.etree.ElementTree import Element

    from _typeshed import WriteableBuffer

WORKER_AGENT = "cloudknot-worker"
"""The worker's user agent. The embedded cloud counts its requests by it."""
SIGNED_BODY = 1024 * 1024
"""Bytes of the largest body whose digest is signed on every way."""
LARGEST_BODY = 256 * 1024 * 1024
"""Bytes of the largest body in one request, because a failed request is repeated as a whole."""
WARM_UP = "cloudknot-warm-up"
"""The bucket of the request that warms a process up. It need not exist."""
IMPATIENCE = 1.0
"""Seconds for a request that only saves others some time."""
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
MAX_IDLE = 64
"""Number of connections that are kept open."""
# These statuses mean that the server refuses requests of this kind. Others concern one object or one moment.
REFUSALS = frozenset({301, 307, 400, 403})
"""Statuses that end this fast path. boto3 makes all further requests."""


class PlainRequests:
    """Requests to one S3 server, from any thread or forked process.

    After a refusal or a failed connection, this object sends no more requests.

    Parameters
    ----------
    server : S3Server
    agent : str
        The user agent.
    owners : BucketOwners
        The owners that every request expects.
    connect : callable, optional
        Makes a connection to the server of a URL, in place of this module's own function.
    timeouts : tuple of float
        Seconds until a connection attempt has failed, and seconds without data until a request has failed.
    """

    def __init__(
        self,
        server: S3Server,
        agent: str,
        owners: BucketOwners,
        connect: Callable[[str], S3Connection] | None = None,
        timeouts: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
    ) -> None:
        self._server, self._agent, self._owners = server, agent, owners
        self._path, self._connect_timeout = urlsplit(server.url).path, timeouts[0]
        self._connections = _Connections(server.url, self._connect if connect is None else connect, timeouts[1])
        self._is_usable = server.is_direct

    def get(self, bucket: str, key: str, span: Span) -> bytes | None:
        """Return the bytes ``span`` of an object, or None if the caller should try GetObject."""
        answer = self._send("GET", bucket, key, _range_header(span))
        if answer is None:
            return None
        data = answer.read_all()
        return data if answer.status == (206 if span else 200) else None

    def open(self, bucket: str, key: str, span: Span) -> ArrivingBody | None:
        """Return the bytes ``span`` of an object as they arrive, or None if the caller should try GetObject."""
        answer = self._send("GET", bucket, key, _range_header(span))
        if answer is None or answer.status == (206 if span else 200):
            return answer
        answer.read_all()
        return None

    def put(
        self, bucket: str, key: str, body: Pieces, headers: Mapping[str, str], query: Mapping[str, str] | None = None
    ) -> str | None:
        """Store an object, or with a query a part of one. Return its ETag, or None if the caller should use boto3.

        Neither joins nor copies the pieces of a large body.
        """
        size = size_of(body)
        is_signed = size <= SIGNED_BODY
        if size > LARGEST_BODY or not (is_signed or self._server.protects_bodies):
            return None
        answer = self._send("PUT", bucket, key, headers, [b"".join(body)] if is_signed else body, query)
        if answer is None or answer.read_all() is None or answer.status != 200:
            return None
        return answer.etag

    def list(self, bucket: str, query: Mapping[str, str]) -> ListedPage | None:
        """Return a page of ListObjectsV2, or None if the caller should use boto3."""
        answer = self._send("GET", bucket, "", {}, query={**query, "list-type": "2", "encoding-type": "url"})
        data = None if answer is None else answer.read_all()
        return _parsed_page(data) if answer is not None and answer.status == 200 and data is not None else None

    def warm_up(self) -> None:
        """Load the modules and credentials that a request needs, before this process forks. Leaves no connection."""
        # No account has this number. With the account of the credentials, the request would need STS.
        self._owners.name(WARM_UP, "000000000000")
        self.get(WARM_UP, "nothing", {})
        self.close()
        # This request for an object that does not exist may be refused. Requests for real objects may succeed.
        self._is_usable = self._server.is_direct

    def impatient(self) -> PlainRequests:
        """Return an object for requests to the same server that fail after `IMPATIENCE`."""
        return PlainRequests(self._server, self._agent, self._owners, timeouts=(IMPATIENCE, IMPATIENCE))

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()

    def lend(self) -> S3Connection | None:
        """Return an open connection for the next process that this one forks; None if that makes its own.

        The forked process adopts it. This one takes it back after that process has ended well.
        """
        # The state of TLS is in the memory of one process.
        if self._server.url.startswith("https:") or not self._is_usable:
            return None
        try:
            return self._connections.take()
        except OSError:
            # The forked process tries it again, with its own patience.
            return None

    def adopt(self, connection: S3Connection) -> None:
        """Use a connection that the parent of this process has lent."""
        self._connections.adopt(connection)

    def is_idle(self, connection: S3Connection) -> bool:
        """Return whether a connection waits for a request, and no answer to an earlier one can arrive."""
        return self._connections.has(connection)

    def take_back(self, connection: S3Connection) -> None:
        """Keep a connection that was lent to a process, and whose last request has been answered."""
        self._connections.put_back(connection)

    def _send(
        self,
        method: str,
        bucket: str,
        key: str,
        headers: Mapping[str, str],
        body: Pieces = (),
        query: Mapping[str, str] | None = None,
    ) -> ArrivingBody | None:
        """Send a request. Return S3's answer, of which only the headers have been read, or None without one."""
        # The bucket goes into the path, so that all requests share the connections to one host.
        path = f"{self._path}/{bucket}/{quote(key, safe='/~')}" if key else f"{self._path}/{bucket}"
        signed = self._signed(method, bucket, path, headers, body, query or {})
        connection = self._connection() if signed else None
        if signed is None or connection is None:
            return None
        try:
            target = f"{path}?{urlencode(sorted(query.items()), quote_via=quote, safe='~')}" if query else path
            connection.request(method, target, body[0] if len(body) == 1 else body or None, signed)
            answer = connection.getresponse()
        except Exception as error:
            connection.close()
            if not is_lost(error):
                raise
            return None
        # A login page is not by S3. boto3 sends the request again, and raises an error if that happens again.
        is_object = bool(key) and answer.status < 300
        if not is_from_aws(answer.headers.keys()) or (is_object and "etag" not in answer.headers):
            connection.close()
            return None
        if answer.status in REFUSALS:
            self._is_usable = False
        return ArrivingBody(answer, connection, self._connections)

    def _signed(
        self,
        method: str,
        bucket: str,
        path: str,
        headers: Mapping[str, str],
        body: Pieces,
        query: Mapping[str, str],
    ) -> dict[str, str] | None:
        """Return the headers with a signature, or None if credentials are missing or cannot be fetched now."""
        if not self._is_usable:
            return None
        credentials = self._server.credentials()
        if credentials is None:
            return None
        expected = {"Host": self._server.host, HEADER: self._owners.of(bucket), **headers}
        size = size_of(body)
        # Every object of cloudknot has its own checksums, which its reader compares. A digest of a large body would
        # only protect it on a network without TLS.
        digest = UNSIGNED if size > SIGNED_BODY else sha256_of(body)
        signed = signed_headers(method, path, expected, digest, credentials, self._server.region, query=query)
        length = {"Content-Length": str(size)} if method == "PUT" else {}
        return {"User-Agent": self._agent, **signed, **length}

    def _connection(self) -> S3Connection | None:
        try:
            return self._connections.take()
        except OSError:
            # A network may let only another name of S3 through. Then each further try would have to time out.
            self._is_usable = False
            return None

    def _connect(self, url: str) -> S3Connection:
        host = urlsplit(url).netloc
        if url.startswith("https:"):
            return tls_connection_to(host, self._connect_timeout, self._tls)
        return connection_to(host, self._connect_timeout)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The certificates that boto3 trusts."""
        import ssl

        # All connections share the context, because loading it takes longer than a request.
        return ssl.create_default_context(cafile=self._server.certificates())


class ListedPage(NamedTuple):
    """A page of a listing: keys with their sizes in bytes, and the token of the next page; empty for the last one."""

    objects: tuple[tuple[str, int], ...]
    token: str


def _parsed_page(data: bytes) -> ListedPage | None:
    """Return the page in S3's answer, or None if it is not a complete one."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(data)
        if root.tag != f"{_XML}ListBucketResult":
            return None
        found = root.findall(f"{_XML}Contents")
        objects = tuple((unquote(_text(item, "Key")), int(_text(item, "Size"))) for item in found)
        token = _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else ""
        return ListedPage(objects, token) if len(objects) == int(_text(root, "KeyCount")) else None
    except (ElementTree.ParseError, ValueError):
        return None


def _text(element: Element, name: str) -> str:
    """Return the text of a part of an answer. Raises ValueError if it is missing."""
    text = element.findtext(_XML + name)
    if not text:
        raise ValueError(f"the answer lacks {name}")
    return text


def _range_header(span: Span) -> dict[str, str]:
    return {"Range": span["Range"]} if span else {}


class ArrivingBody:
    """An answer of S3 whose body is read as it arrives. A connection whose answer was read is used again.

    Attributes
    ----------
    status : int
    etag : str
        Empty if the answer has none.
    """

    def __init__(self, answer: S3Answer, connection: S3Connection, connections: _Connections) -> None:
        self._answer, self._connection, self._connections = answer, connection, connections
        self.status, self.etag = answer.status, str(answer.headers.get("etag", ""))
        length = answer.headers.get("content-length", "")
        self._has_length = length.isdecimal() or "transfer-encoding" in answer.headers
        self._left: int | None = int(length) if length.isdecimal() else None

    def read_all(self) -> bytes | None:
        """Return the whole body, or None if the answer broke off."""
        data: bytes | None = None
        try:
            data = self._answer.read()
        except Exception as error:
            if not is_lost(error):
                raise
        # An answer that broke off is shorter than its length.
        if data is None or not self._has_length or self._left not in (None, len(data)):
            self.close()
            return None
        self._left = 0
        self._put_back()
        return data

    def read(self, size: int | None = None) -> bytes:
        """Return up to ``size`` bytes, or all. Raises OSError if the answer breaks off."""
        if size is None:
            data = self.read_all()
            if data is None:
                raise ConnectionResetError("S3's answer broke off")
            return data
        buffer = bytearray(size if self._left is None else min(size, self._left))
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read bytes into a buffer, and return their number; 0 at the end. Raises OSError if the answer breaks off."""
        if self._left == 0:
            return 0
        try:
            count = self._answer.readinto(buffer)
        except Exception as error:
            self.close()
            if not is_lost(error):
                raise
            raise ConnectionResetError("S3's answer broke off") from error
        if not count and (self._left or not self._has_length):
            self.close()
            raise ConnectionResetError("S3's answer broke off")
        if self._left is not None:
            self._left -= count
            if not self._left:
                self._put_back()
        return count

    def _put_back(self) -> None:
        self._answer.close()
        self._connections.put_back(self._connection)

    def close(self) -> None:
        """End an answer. Its connection is closed unless all was read."""
        if self._left != 0:
            self._left = 0
            self._answer.close()
            self._connection.close()


class _Connections:
    """Connections to one server, kept open between requests. Threads share them, and a forked process has its own."""

    def __init__(self, url: str, connect: Callable[[str], S3Connection], read_timeout: float = READ_TIMEOUT) -> None:
        self._url, self._connect, self._read_timeout = url, connect, read_timeout
        self._idle: list[S3Connection] = []
        self._process = os.getpid()
        _close_with(self, self._idle)

    def adopt(self, connection: S3Connection) -> None:
        """Take a connection of the parent process. Its others stay with the parent."""
        # Closing them here does not end them there.
        self.close()
        self._process = os.getpid()
        self._idle.append(connection)

    def has(self, connection: S3Connection) -> bool:
        """Return whether a connection is idle."""
        return connection in self._idle

    def take(self) -> S3Connection:
        """Return a connection for exclusive use. Raises `OSError` if the server accepts none."""
        if self._process != os.getpid():
            # These connections are the parent's. Closing them here does not end them there.
            self.close()
            self._process = os.getpid()
        while (connection := _pop(self._idle)) is not None:
            if connection.sock and not _is_readable(connection.sock):
                return connection
            # An idle connection is readable if the server has closed it, or has sent something unrequested.
            connection.close()
        connection = self._connect(self._url)
        try:
            connection.connect()
        except BaseException:
            # A socket that could not be connected, or has no TLS, is left open.
            connection.close()
            raise
        if connection.sock:
            connection.sock.settimeout(self._read_timeout)
        return connection

    def put_back(self, connection: S3Connection) -> None:
        """Keep a connection after its answer was read, unless the server has ended it."""
        if connection.sock and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle)


def _close_with(pool: _Connections, idle: list[S3Connection]) -> None:
    """Close the idle connections of a pool once it is no longer used."""

    def close(reference: weakref.ReferenceType[_Connections]) -> None:
        _POOLS.discard(reference)
        _close(idle)

    # Not `__del__`: in a cycle of references, the sockets may be finalized before their pool, and warn.
    # Not `weakref.finalize`: at the end of a forked process, its search for others would copy shared pages.
    _POOLS.add(weakref.ref(pool, close))


_POOLS: set[weakref.ReferenceType[_Connections]] = set()
"""References to all pools. They have to outlive the pools for their callbacks."""


def _close(connections: list[S3Connection]) -> None:
    while (connection := _pop(connections)) is not None:
        connection.close()


def _pop(connections: list[S3Connection]) -> S3Connection | None:
    # Another thread may take the last one between a check and the pop.
    try:
        return connections.pop()
    except IndexError:
        return None


def _is_readable(sock: socket.socket) -> bool:
    """Return whether data, or the end of the connection, has arrived."""
    # select, in contrast to poll, fails for file descriptors above 1023. Windows has only select.
    if sys.platform == "win32":
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
