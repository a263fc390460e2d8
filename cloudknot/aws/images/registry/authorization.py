"""Authorization: the header that proves a login, by password or by tokens that it gets and renews."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.connections import Connections, InterruptedRequestError, read_whole
from cloudknot.aws.images.registry.docker_config import TOKEN_USER
from cloudknot.aws.images.registry.reference import is_loopback

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CLIENT_ID = "cloudknot"
"""The name of this client at a token server."""
TOKEN_LIMIT = 1 << 20
"""Most bytes in the answer of a token server."""

# A parameter, or the name of a scheme before its parameters.
_PIECE = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))|([A-Za-z]+)')


class LoginRefusedError(Exception):
    """The registry accepts neither the login nor a new token for it."""


class Authorization:
    """The ``Authorization`` headers for one registry, shared by threads.

    Parameters
    ----------
    login : RegistryLogin
        Anonymous if the user name is empty.
    connections : Connections
        For requests to the token server.
    renew : callable, optional
        Returns a new login when the registry refuses this one, because it has expired.
    at_once : bool
        Whether the first request already has the password. If not, a challenge must ask for it.
    """

    def __init__(
        self,
        login: RegistryLogin,
        connections: Connections,
        renew: Callable[[], RegistryLogin] | None = None,
        *,
        at_once: bool = True,
    ) -> None:
        self._login, self._connections, self._renew = login, connections, renew
        self._basic = at_once and bool(login.username)
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()

    def header(self, scope: str) -> str:
        """Return the header for a scope such as ``"repository:name:pull"``; empty for an anonymous request."""
        with self._lock:
            return self._header(scope)

    def renewed(self, scope: str, used: str, challenge: str) -> str:
        """Return a new header after the registry refused the header ``used`` with that challenge.

        Raises
        ------
        LoginRefusedError
            No other header is possible.
        InterruptedRequestError
            The token server does not answer.
        """
        with self._lock:
            # Another thread may have renewed it already.
            if (header := self._header(scope)) != used:
                return header
            offered = _challenges(challenge)
            if "bearer" in offered:
                self._tokens[scope] = self._token(offered["bearer"], scope)
            elif self._renew is not None and used:
                self._login = self._renew()
            elif "basic" in offered and self._login.username and not used:
                self._basic = True
            header = self._header(scope)
            if header == used:
                raise LoginRefusedError
            return header

    def _header(self, scope: str) -> str:
        if scope in self._tokens:
            return f"Bearer {self._tokens[scope]}"
        return _basic(self._login) if self._basic else ""

    def _token(self, challenge: Mapping[str, str], scope: str) -> str:
        """Return a token from the server that a challenge names."""
        realm = challenge.get("realm", "")
        parts = urlsplit(realm)
        encrypted = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.netloc))
        # Only a registry on this machine may ask for a password without encryption, at a token server beside it.
        if not encrypted or (is_loopback(parts.netloc) and not is_loopback(self._login.registry)):
            raise LoginRefusedError
        try:
            return self._ask(realm, challenge.get("service", ""), challenge.get("scope") or scope)
        except LoginRefusedError:
            if self._renew is None:
                raise
            self._login = self._renew()
            return self._ask(realm, challenge.get("service", ""), challenge.get("scope") or scope)

    def _ask(self, realm: str, service: str, scope: str) -> str:
        # A challenge names several scopes with spaces between them; each is a parameter of its own.
        fields = [("service", service), *(("scope", part) for part in scope.split())]
        headers, body, method = {}, None, "GET"
        if self._login.username == TOKEN_USER:
            token = [("grant_type", "refresh_token"), ("refresh_token", self._login.password), ("scope", scope)]
            body = urlencode([*token, ("service", service), ("client_id", CLIENT_ID)]).encode()
            headers, method = {"Content-Type": "application/x-www-form-urlencoded"}, "POST"
            url = realm
        else:
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(fields)}"
            if self._login.username:
                headers = {"Authorization": _basic(self._login)}
        return _token_in(self._connections.open(method, url, headers, body), url)


def _token_in(answer: BaseHTTPResponse, url: str) -> str:
    content = read_whole(answer, url, TOKEN_LIMIT)
    answer.close()
    if answer.status >= 500 or answer.status == 429:
        raise InterruptedRequestError(f"its token server {urlsplit(url).netloc} returned HTTP {answer.status}")
    try:
        fields = json.loads(content) if answer.status == 200 else {}
        return str(fields.get("token") or fields["access_token"])
    except (ValueError, KeyError, AttributeError):
        raise LoginRefusedError from None


def _basic(login: RegistryLogin) -> str:
    return f"Basic {base64.b64encode(f'{login.username}:{login.password}'.encode()).decode()}"


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each scheme in a ``WWW-Authenticate`` header, by the scheme in lower case."""
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for name, quoted, plain, scheme in _PIECE.findall(header):
        if scheme:
            parameters = found.setdefault(scheme.lower(), {})
        else:
            parameters[name.lower()] = quoted or plain
    return found
