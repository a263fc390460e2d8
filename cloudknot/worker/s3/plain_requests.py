"""S3 requests with botocore's signature and the standard library's HTTP, for the common case that all goes well.

boto3's own way through its service model takes three times the CPU of such a request. In a process that was forked for
a single element it touches so many pages of memory that the first request costs several milliseconds, most of them
spent on copying those pages. boto3 is left whatever does not succeed here: it knows the cause, and the remedy.

Client and worker read small objects in this way; the worker stores its packs so, too. Only public names of botocore
are used.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from .limits import CONNECT_TIMEOUT, READ_TIMEOUT
from .range_file import Span
from .retries import is_foreign

if TYPE_CHECKING:
    from botocore.session import Session
    from types_boto3_s3 import S3Client

WORKER_AGENT = "cloudknot-worker"
"""The worker's user agent, by which the embedded cloud counts its requests."""
BODY_LIMIT = 1024 * 1024
"""Bytes of a body that is signed whole; boto3 streams a larger one with a checksum."""
MAX_IDLE = 64
"""Connections that are kept open."""
REFUSALS = frozenset({301, 307, 400, 403})
"""Statuses that say of the request that it is not one for this server, rather than of the object or the moment."""


class PlainRequests:
    """Requests to the server of one S3 client, from any thread, and in a fork of the process.

    After a refusal, or when nobody listens, this object makes no more requests: where only another name of S3 is let
    through, each try would have to time out.

    Parameters
    ----------
    session : botocore.session.Session
        Gives the credentials, which it renews, and the certificates.
    client : boto3 client of S3
        Gives endpoint, region and proxies.
    agent : str
        The user agent.
    connect : callable, optional
        Makes a connection to the server of a URL, in place of this module's own.
    """

    def __init__(
        self, session: Session, client: S3Client, agent: str, connect: Callable[[str], HTTPConnection] | None = None
    ) -> None:
        self.client = client
        self._session, self._agent = session, agent
        self._url = client.meta.endpoint_url.rstrip("/")
        self._region = client.meta.region_name
        self._connections = _Connections(self._url, self._connect if connect is None else connect)
        self._is_usable = not _needs_more(client)

    def get(self, bucket: str, key: str, span: Span) -> bytes | None:
        """Return what GetObject gives, of the ``Range`` in ``span`` or of all; None for GetObject to try."""
        answer = self._send("GET", bucket, key, {"Range": span["Range"]} if span else {})
        if answer is None:
            return None
        status, length, data = answer
        whole = length == str(len(data))
        return data if whole and status == (206 if span else 200) else None

    def put(self, bucket: str, key: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Store an object as PutObject does; False for PutObject to try."""
        answer = self._send("PUT", bucket, key, headers, body) if len(body) <= BODY_LIMIT else None
        return answer is not None and answer[0] == 200

    def warm_up(self) -> None:
        """Load what a request needs, for processes that are forked from this one. No connection stays open."""
        self.get("cloudknot-warm-up", "nothing", {})
        self.close()
        # The answer says nothing of requests for real objects.
        self._is_usable = not _needs_more(self.client)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._connections.close()

    def _send(
        self, method: str, bucket: str, key: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, str | None, bytes] | None:
        """Return status, length and body of the answer; None if there is none."""
        url = f"{self._url}/{bucket}/{quote(key, safe='/~')}"
        signed = self._signed(method, url, headers, body)
        connection = self._connection() if signed else None
        if signed is None or connection is None:
            return None
        try:
            connection.request(method, urlsplit(url).path, body or None, dict(signed.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException):
            connection.close()
            return None
        self._connections.put_back(connection)
        if answer.status in REFUSALS:
            self._is_usable = False
        return answer.status, answer.headers["Content-Length"], data

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> AWSRequest | None:
        """Return the signed request; None without credentials, also if they cannot be had at the moment."""
        if not self._is_usable:
            return None
        request = AWSRequest(method, url, headers={"User-Agent": self._agent, **headers}, data=body)
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                return None
            S3SigV4Auth(credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        except Exception as error:
            if not is_foreign(error):
                raise
            return None
        return request

    def _connection(self) -> HTTPConnection | None:
        try:
            return self._connections.take()
        except OSError:
            self._is_usable = False
            return None

    def _connect(self, url: str) -> HTTPConnection:
        host = urlsplit(url).netloc
        if url.startswith("https:"):
            return HTTPSConnection(host, timeout=CONNECT_TIMEOUT, context=self._tls)
        return HTTPConnection(host, timeout=CONNECT_TIMEOUT)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The certificates that boto3 trusts. All connections share them: loading takes longer than a request."""
        own = self._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        return ssl.create_default_context(cafile=own or get_cert_path(True))


def _needs_more(client: S3Client) -> bool:
    """Whether requests go through a proxy, or show a certificate of the client's."""
    url = client.meta.endpoint_url
    # Options of botocore's `Config` that its type stubs lack.
    proxies, certificate = client.meta.config.proxies, client.meta.config.client_cert  # type: ignore[attr-defined]
    if proxies is None:
        proxies = get_environ_proxies(url)
    return bool(proxies.get(urlsplit(url).scheme) or certificate)


class _Connections:
    """Connections to one server, kept open between requests. Threads share them; a forked process has its own."""

    def __init__(self, url: str, connect: Callable[[str], HTTPConnection]) -> None:
        self._url, self._connect = url, connect
        self._idle: list[HTTPConnection] = []
        self._process = os.getpid()
        weakref.finalize(self, _close, self._idle)

    def take(self) -> HTTPConnection:
        """Return a connection that nobody else uses. Raises `OSError` if nobody listens."""
        if self._process != os.getpid():
            # The parent's. To close them here ends nothing there.
            self.close()
            self._process = os.getpid()
        while (connection := _pop(self._idle)) is not None:
            if not _is_readable(connection.sock):
                return connection
            # The server has closed it, or says something that nobody asked.
            connection.close()
        connection = self._connect(self._url)
        connection.connect()
        if connection.sock:
            connection.sock.settimeout(READ_TIMEOUT)
        return connection

    def put_back(self, connection: HTTPConnection) -> None:
        """Keep a connection whose answer has been read, unless the server has ended it."""
        if connection.sock and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        _close(self._idle)


def _close(connections: list[HTTPConnection]) -> None:
    while (connection := _pop(connections)) is not None:
        connection.close()


def _pop(connections: list[HTTPConnection]) -> HTTPConnection | None:
    # Another thread may take the last one.
    try:
        return connections.pop()
    except IndexError:
        return None


def _is_readable(sock: socket.socket) -> bool:
    """Whether something has arrived, be it only the end."""
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
