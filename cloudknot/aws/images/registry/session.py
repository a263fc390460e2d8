"""RegistrySession: requests to one registry, with its login, redirects, and attempts after failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry import refusals
from cloudknot.aws.images.registry.authorization import Authorization, LoginRefusedError
from cloudknot.aws.images.registry.connections import Connections, InterruptedRequestError, read_whole
from cloudknot.aws.images.registry.patience import Patience
from cloudknot.aws.images.registry.reference import is_loopback, url_of
from cloudknot.aws.images.registry.refusals import RegistryAnswer
from cloudknot.errors import CloudError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

FIRST_PATIENCE = 5.0
"""Seconds of attempts to reach a registry that has never answered."""
BODY_LIMIT = 8 << 20
"""Most bytes of an answer that is read whole. The specification permits manifests of 4 MiB."""
REDIRECTS = 5
"""Most redirects of one request."""

Body = bytes | Callable[[], Iterable[bytes]] | None


class RegistrySession:
    """Requests to one registry with one login. Threads may share it.

    Parameters
    ----------
    login : RegistryLogin
        Its ``registry`` is host and port; anonymous if the user name is empty.
    timeout : float
        Seconds without an answer until a request has failed.
    patience : float
        Seconds of attempts without progress until a call fails.
    renew, at_once
        See `Authorization`.
    """

    def __init__(
        self,
        login: RegistryLogin,
        *,
        timeout: float,
        patience: float,
        renew: Callable[[], RegistryLogin] | None = None,
        at_once: bool = True,
    ) -> None:
        self.login, self._limit = login, patience
        self._connections = Connections(timeout)
        self._authorization = Authorization(login, self._connections, renew, at_once=at_once)
        self._has_answered, self._stopped = False, threading.Event()

    @property
    def address(self) -> str:
        return self.login.registry

    @property
    def url(self) -> str:
        return url_of(self.address)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def stop(self) -> None:
        """Break all connections, and have every transfer in another thread end with `StoppedTransferError`."""
        self._stopped.set()
        self._connections.stop()

    def abort(self) -> None:
        """Break all connections, so that threads that wait for the registry fail at once."""
        self._connections.abort()

    def patience(self, stop: threading.Event | None = None) -> Patience:
        """Return the waits for one transfer."""
        # A registry that never answered is probably down or misspelt, and a person should learn that soon.
        stops = (self._stopped,) if stop is None else (stop, self._stopped)
        return Patience(lambda: self._limit if self._has_answered else min(self._limit, FIRST_PATIENCE), *stops)

    def call(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        stop: threading.Event | None = None,
    ) -> RegistryAnswer:
        """Make a request until the registry answers, and return the answer. It may be a refusal."""
        patience = self.patience(stop)
        patience.check()
        while True:
            try:
                answer = self.attempt(method, path, scope, headers, body)
                if answer.status not in refusals.BUSY or answer.is_full:
                    return answer
                patience.wait(self.refused(answer, path, scope), answer.wait)
            except InterruptedRequestError as error:
                patience.wait(refusals.no_answer(self.address, str(error)))

    def attempt(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        timeout: float | None = None,
    ) -> RegistryAnswer:
        """Make a request once and read its answer; raise `InterruptedRequestError` without one."""
        return self.read(self.open(method, path, scope, headers, body, timeout), path)

    def refused(self, answer: RegistryAnswer, path: str, scope: str) -> CloudError:
        """Return the error for an answer that is no success."""
        parts = scope.split(":")
        path = urlsplit(path).path
        anonymous = not self.login.username
        return refusals.refused(self.address, parts[1] if len(parts) > 1 else path, answer, path, anonymous=anonymous)

    def open(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        timeout: float | None = None,
    ) -> BaseHTTPResponse:
        """Make a request once and return its answer with the body unread. A refused login is an answer, too.

        Parameters
        ----------
        path : str
            A path, or the address that an earlier answer named.
        scope : str
            What the request does, in the words of token servers: ``"repository:name:pull"``.
        body : bytes or callable
            A callable returns the blocks of the body, anew for each attempt.
        """
        renewed = False
        while True:
            header = self._authorization.header(scope)
            answer = self._follow(method, urljoin(self.url, path), header, headers or {}, body, timeout)
            if answer.status not in (401, 403) or renewed:
                return answer
            # Only the body of the answer shows whether ECR's login has expired.
            read = self.read(answer, path)
            if not read.is_expired:
                raise self.refused(read, path, scope)
            try:
                self._authorization.renewed(scope, header, read.headers.get("www-authenticate", ""))
            except LoginRefusedError:
                raise self.refused(read, path, scope) from None
            renewed = True

    def _follow(
        self, method: str, url: str, header: str, headers: Mapping[str, str], body: Body, timeout: float | None
    ) -> BaseHTTPResponse:
        """Make a request and follow the redirects of a read."""
        for _ in range(REDIRECTS):
            # The registry's login goes to the registry only. A redirect to storage has a signature of its own.
            own = {"Authorization": header} if header and self._is_own(url) else {}
            content = body() if callable(body) else body
            answer = self._connections.open(method, self._safe(url), {**headers, **own}, content, timeout)
            self._has_answered = True
            if answer.status in (401, 403) and not self._is_own(url):
                # The signature in a redirect has expired. Only the registry can make a new one.
                self.read(answer, url)
                raise InterruptedRequestError(f"its storage {urlsplit(url).netloc} returned HTTP {answer.status}")
            location = answer.headers.get("location")
            if method not in ("GET", "HEAD") or answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            self.read(answer, url)
            url = urljoin(url, location)
        raise InterruptedRequestError(f"it redirects a request more than {REDIRECTS} times")

    def _is_own(self, url: str) -> bool:
        return _place(url) == _place(self.url) or urlsplit(url).netloc == self.address

    def _safe(self, url: str) -> str:
        """Return an address that the registry named, encrypted unless the registry is on this machine."""
        parts = urlsplit(url)
        if self._is_own(url):
            # A proxy in front of a registry hides from it that clients use HTTPS.
            return parts._replace(scheme=urlsplit(self.url).scheme).geturl()
        if parts.scheme == "https" or (is_loopback(parts.netloc) and is_loopback(self.address)):
            return url
        raise CloudError(
            f"The registry {self.address} redirects a request to {parts.netloc}, without encryption. Use another "
            "registry, or ask its administrator to correct its address for storage."
        )

    def read(self, answer: BaseHTTPResponse, path: str) -> RegistryAnswer:
        try:
            body = read_whole(answer, path, BODY_LIMIT)
        finally:
            # A connection that was read to the end is back in its pool already.
            answer.close()
        if len(body) > BODY_LIMIT:
            raise refusals.not_a_registry(self.address, urlsplit(path).path)
        return RegistryAnswer(answer.status, {name.lower(): text for name, text in answer.headers.items()}, body)


def _place(url: str) -> tuple[str, int]:
    """Return host and port of an address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
