"""Connections: HTTP to a registry and to the hosts that it names, with proxies and certificates. No retries.

Only this module imports ``urllib3`` at run time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cloudknot.aws.images.registry.reference import is_loopback
from cloudknot.errors import CloudError, CloudknotConfigurationError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.connection import HTTPConnection

CONNECT_TIMEOUT = 5.0
"""Most seconds until a connection is open."""
CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""Environment variables with a file of certificates. OpenSSL itself reads SSL_CERT_FILE."""


class InterruptedRequestError(Exception):
    """No answer, or only a part of one. Another attempt may succeed."""


class Connections:
    """Open connections, shared by the threads of one client.

    Parameters
    ----------
    timeout : float
        Seconds without a byte from the server until a request has failed.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._managers: dict[str, PoolManager] = {}
        self._live: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._lock, self._stopped = threading.Lock(), False

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        timeout: float | None = None,
    ) -> BaseHTTPResponse:
        """Send one request and return its answer with the body unread. No redirect is followed."""
        from urllib3 import Timeout

        wait = timeout or self._timeout
        manager = self._manager(_proxy_of(url))
        with translated(url):
            answer = manager.urlopen(
                method,
                url,
                body=body,
                headers={"User-Agent": "cloudknot", **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=min(wait, CONNECT_TIMEOUT), read=wait),
            )
        return answer

    def close(self) -> None:
        """Close all connections. A later request opens new ones."""
        for manager in self._managers.values():
            manager.clear()

    def abort(self) -> None:
        """Break all connections, so that threads that wait for a server fail at once."""
        with self._lock:
            live = list(self._live)
        for connection in live:
            _break(connection)

    def stop(self) -> None:
        """Break all connections, and from now on each new one."""
        with self._lock:
            self._stopped = True
        self.abort()

    def _note(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._live.add(connection)
            stopped = self._stopped
        if stopped:
            _break(connection)

    def _manager(self, proxy: str) -> PoolManager:
        import urllib3

        if proxy not in self._managers:
            # Many connections to one host: the transfers of several blobs at once.
            options: dict[str, Any] = {
                "maxsize": 16,
                "ssl_context": _tls(_named_certificates(), _system_certificates()),
            }
            if proxy:
                login = urlsplit(proxy)
                words = f"{unquote(login.username)}:{unquote(login.password or '')}" if login.username else None
                headers = urllib3.make_headers(proxy_basic_auth=words)
                manager: PoolManager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
            else:
                manager = urllib3.PoolManager(**options)
            manager.pool_classes_by_scheme = _pools(self._note)
            self._managers.setdefault(proxy, manager)
        return self._managers[proxy]


def _break(connection: HTTPConnection) -> None:
    """Break a connection, so that the thread that uses it fails at once."""
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


def _pools(note: Callable[[HTTPConnection], None]) -> dict[str, Any]:
    """Return urllib3's kinds of pools by scheme. Their connections report themselves when they open."""
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            note(self)

    class Encrypted(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            note(self)

    http = type("_PlainPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": Plain})
    https = type("_EncryptedPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": Encrypted})
    return {"http": http, "https": https}


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the failures of a connection into `InterruptedRequestError`, and TLS faults into `CloudError`."""
    from urllib3.exceptions import HTTPError, SSLError

    try:
        yield
    except SSLError as error:
        if not _is_lasting(error):
            raise InterruptedRequestError(_reason(error)) from error
        raise CloudError(
            f"The connection to {urlsplit(url).netloc} is not secure: {_reason(error)}. A proxy of your network may "
            "replace the certificate, or the server has none. Set AWS_CA_BUNDLE to the file with your network's "
            "certificates, or correct the address."
        ) from error
    except (HTTPError, HTTPException, OSError) as error:
        raise InterruptedRequestError(_reason(error)) from error


def read_whole(answer: BaseHTTPResponse, url: str, limit: int) -> bytes:
    """Return the body of an answer; a longer one than ``limit`` only up to a little more than that."""
    blocks, size = [], 0
    # Only the empty read at the end finds out that the connection broke before the end of the body.
    with translated(url):
        while size <= limit and (block := answer.read(1 << 16)):
            blocks.append(block)
            size += len(block)
    return b"".join(blocks)


def _proxy_of(url: str) -> str:
    """Return the proxy for an address, from the environment or the system's settings; empty without one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _named_certificates() -> str:
    return next(filter(None, (os.environ.get(name) for name in CA_VARIABLES)), "")


def _system_certificates() -> tuple[str, ...]:
    return tuple(os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))


@functools.cache
def _tls(file: str, system: tuple[str, ...]) -> ssl.SSLContext:
    """Return a TLS context with the certificates in a file; with the system's own if it is empty.

    OpenSSL reads the variables in ``system`` itself. They are a part of the key of the cache.
    """
    try:
        context = ssl.create_default_context(cafile=file or None)
    except (OSError, ssl.SSLError) as error:
        raise CloudknotConfigurationError(
            f"{file} has no usable certificates: {error}. Set AWS_CA_BUNDLE to a PEM file, or unset it."
        ) from error
    if not file and not context.cert_store_stats()["x509_ca"]:
        # Python on macOS and in some containers has no certificates of its own. botocore's are public ones.
        from botocore.httpsession import get_cert_path

        context.load_verify_locations(get_cert_path(True))
    return context


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, from the outside in."""
    seen: list[BaseException] = []
    inner: object = error
    while isinstance(inner, BaseException) and inner not in seen:
        seen.append(inner)
        # urllib3 keeps the cause as an argument or as `reason`, or as the cause of the exception.
        arguments = [argument for argument in inner.args if isinstance(argument, BaseException)]
        reason = getattr(inner, "reason", None)
        inner = next(iter(arguments), None) or (reason if isinstance(reason, BaseException) else inner.__cause__)
    return seen


def _is_lasting(error: BaseException) -> bool:
    """Return whether a fault of TLS would come back: a bad certificate, or a server without TLS."""
    return any(
        isinstance(item, ssl.SSLCertVerificationError)
        or (isinstance(item, ssl.SSLError) and item.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"))
        for item in _causes(error)
    )


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words, without addresses and object names."""
    from urllib3.exceptions import ReadTimeoutError

    seen = _causes(error)
    certificate = next((item for item in seen if isinstance(item, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        return str(certificate.verify_message)
    if _is_lasting(error):
        return "the server does not use TLS"
    if any(isinstance(item, TimeoutError | ReadTimeoutError) for item in seen):
        return "it sends nothing any more"
    tunnel = next((str(item) for item in seen if str(item).startswith("Tunnel connection failed")), "")
    if tunnel:
        return f"its proxy refuses ({tunnel.partition(': ')[2]})"
    system = next((item for item in reversed(seen) if isinstance(item, OSError) and item.strerror), None)
    if system is not None and system.strerror:
        return str(system.strerror)
    return "the connection broke"
