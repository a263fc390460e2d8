"""A fast path for small S3 requests: botocore's credentials with the standard library's HTTP client.

A request that does not succeed here is left to boto3. Client and worker read small objects
in this way, and the worker also stores its packs. This module uses only public names of botocore.
"""

# boto3's own way through its service model takes three times the CPU of such a request. In a process that was forked
# for a single element, it touches so many memory pages that copying them takes most of the several milliseconds of the
# first request. botocore's own HTTP session is no alternative: with it, a small GET takes 1.7 times the CPU. For the
# same reason the signature is made by `signature`: botocore's signer touches 220 pages, and it 20.

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from .answers import is_from_aws
from .limits import CONNECT_TIMEOUT, READ_TIMEOUT
from .owners import HEADER, BucketOwners
from .range_file import Span
from .retries import is_botocore_error
from .signature import signed_headers

if TYPE_CHECKING:
    from botocore.session import Session
    from types_boto3_s3 import S3Client

WORKER_AGENT = "cloudknot-worker"
"""The worker's user agent. The embedded cloud counts its requests by it."""
BODY_LIMIT = 1024 * 1024
"""Bytes of the largest body that is signed as a whole. boto3 streams larger ones with a checksum."""
WARM_UP = "cloudknot-warm-up"
"""The bucket of the request that warms a process up. It need not exist."""
MAX_IDLE = 64
"""Number of connections that are kept open."""
# These statuses mean that the server refuses requests of this kind. Others concern one object or one moment.
REFUSALS = frozenset({301, 307, 400, 403})
"""Statuses that end this fast path. boto3 makes all further requests."""


class PlainRequests:
    """Requests to the server of one S3 client, from any thread or forked process.

    After a refusal or a failed connection, this object sends no more requests.

    Parameters
    ----------
    session : botocore.session.Session
        Provides the certificates and the credentials, and renews the latter.
    client : boto3 client of S3
        Provides endpoint, region and proxies.
    agent : str
        The user agent.
    owners : BucketOwners
        The owners that every request expects.
    connect : callable, optional
        Makes a connection to the server of a URL, in place of this module's own function.
    """

    def __init__(
        self,
        session: Session,
        client: S3Client,
        agent: str,
        owners: BucketOwners,
        connect: Callable[[str], HTTPConnection] | None = None,
    ) -> None:
        self.client = client
        self._session, self._agent, self._owners = session, agent, owners
        self._url = client.meta.endpoint_url.rstrip("/")
        self._host, self._path = urlsplit(self._url).netloc, urlsplit(self._url).path
        self._region = client.meta.region_name
        self._connections = _Connections(self._url, self._connect if connect is None else connect)
        self._is_usable = not _needs_boto3(client)

    def get(self, bucket: str, key: str, span: Span) -> bytes | None:
        """Return the bytes ``span`` of an object, or None if the caller should try GetObject."""
        answer = self._send("GET", bucket, key, {"Range": span["Range"]} if span else {})
        return answer[1] if answer is not None and answer[0] == (206 if span else 200) else None

    def put(self, bucket: str, key: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Store an object. Return False if the caller should try PutObject."""
        answer = self._send("PUT", bucket, key, headers, body) if len(body) <= BODY_LIMIT else None
        return answer is not None and answer[0] == 200

    def warm_up(self) -> None:
        """Load the modules and credentials that a request needs, before this process forks. Leaves no connection."""
        # No account has this number. With the account of the credentials, the request would need STS.
        self._owners.name(WARM_UP, "000000000000")
        self.get(WARM_UP, "nothing", {})
        self.close()
        # This request for an object that does not exist may be refused. Requests for real objects may succeed.
        self._is_usable = not _needs_boto3(self.client)

    def close(self) -> None:
        """Close the idle connections."""
        self._connections.close()

    def _send(
        self, method: str, bucket: str, key: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """Return status and body of an answer by S3, or None without one."""
        # The bucket goes into the path, so that all requests share the connections to one host.
        path = f"{self._path}/{bucket}/{quote(key, safe='/~')}"
        signed = self._signed(method, bucket, path, headers, body)
        connection = self._connection() if signed else None
        if signed is None or connection is None:
            return None
        try:
            connection.request(method, path, body or None, signed)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException):
            connection.close()
            return None
        # An answer that broke off is shorter than its length, and a login page is not by S3. boto3 sends the request
        # again, and raises an error if that happens again.
        is_whole = "Transfer-Encoding" in answer.headers or answer.headers["Content-Length"] == str(len(data))
        is_by_s3 = is_from_aws(answer.headers.keys()) and (answer.status >= 300 or "ETag" in answer.headers)
        if not is_whole or not is_by_s3:
            connection.close()
            return None
        self._connections.put_back(connection)
        if answer.status in REFUSALS:
            self._is_usable = False
        return answer.status, data

    def _signed(
        self, method: str, bucket: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> dict[str, str] | None:
        """Return the headers with a signature, or None if credentials are missing or cannot be fetched now."""
        if not self._is_usable:
            return None
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                return None
            frozen = credentials.get_frozen_credentials()
        except Exception as error:
            if not is_botocore_error(error):
                raise
            return None
        expected = {"Host": self._host, HEADER: self._owners.of(bucket), **headers}
        signed = signed_headers(method, path, expected, body, frozen, self._region)
        return {"User-Agent": self._agent, **signed}

    def _connection(self) -> HTTPConnection | None:
        try:
            return self._connections.take()
        except OSError:
            # A network may let only another name of S3 through. Then each further try would have to time out.
            self._is_usable = False
            return None

    def _connect(self, url: str) -> HTTPConnection:
        host = urlsplit(url).netloc
        if url.startswith("https:"):
            return HTTPSConnection(host, timeout=CONNECT_TIMEOUT, context=self._tls)
        return HTTPConnection(host, timeout=CONNECT_TIMEOUT)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The certificates that boto3 trusts."""
        # All connections share the context, because loading it takes longer than a request.
        own = self._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        return ssl.create_default_context(cafile=own or get_cert_path(True))


def _needs_boto3(client: S3Client) -> bool:
    """Return whether requests need a proxy or a client certificate. Only boto3 supports these."""
    url = client.meta.endpoint_url
    # The type stubs lack these options of botocore's `Config`.
    proxies, certificate = client.meta.config.proxies, client.meta.config.client_cert  # type: ignore[attr-defined]
    if proxies is None:
        proxies = get_environ_proxies(url)
    return bool(proxies.get(urlsplit(url).scheme) or certificate)


class _Connections:
    """Connections to one server, kept open between requests. Threads share them, and a forked process has its own."""

    def __init__(self, url: str, connect: Callable[[str], HTTPConnection]) -> None:
        self._url, self._connect = url, connect
        self._idle: list[HTTPConnection] = []
        self._process = os.getpid()
        weakref.finalize(self, _close, self._idle)

    def take(self) -> HTTPConnection:
        """Return a connection for exclusive use. Raises `OSError` if the server accepts none."""
        if self._process != os.getpid():
            # These connections are the parent's. Closing them here does not end them there.
            self.close()
            self._process = os.getpid()
        while (connection := _pop(self._idle)) is not None:
            if not _is_readable(connection.sock):
                return connection
            # An idle connection is readable if the server has closed it, or has sent something unrequested.
            connection.close()
        connection = self._connect(self._url)
        connection.connect()
        if connection.sock:
            connection.sock.settimeout(READ_TIMEOUT)
        return connection

    def put_back(self, connection: HTTPConnection) -> None:
        """Keep a connection after its answer was read, unless the server has ended it."""
        if connection.sock and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        _close(self._idle)


def _close(connections: list[HTTPConnection]) -> None:
    while (connection := _pop(connections)) is not None:
        connection.close()


def _pop(connections: list[HTTPConnection]) -> HTTPConnection | None:
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
