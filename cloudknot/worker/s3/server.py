"""The server of plain S3 requests: its address, and where its credentials come from.

`server_of_variables` reads both from the environment variables of a job, without botocore. `server_of_client` takes
them from a client of botocore, which knows all other sources.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from .connections import connection_to

if TYPE_CHECKING:
    from botocore.session import Session
    from types_boto3_s3 import S3Client

RENEWAL = 900.0
"""Seconds. Credentials with less time left are renewed."""
TIMEOUT = 5.0
"""Seconds for the answer with the credentials of a role."""
_NAMED = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
# botocore asks these before the role of a container, or they change the server.
_OTHER_SOURCES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "HTTP_PROXY",
    "http_proxy",
)


class Credentials(Protocol):
    """A key that signs requests."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class SigningKey(NamedTuple):
    """A key, and the time at which it expires in seconds since 1970."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires: float = float("inf")


@dataclass(frozen=True)
class S3Server:
    """A server that requests can reach.

    Attributes
    ----------
    url : str
    region : str
    credentials : callable
        Returns the credentials for the next request; None if there are none now.
    certificates : callable
        Returns the file with the authorities for TLS.
    is_direct : bool
        Whether requests reach it without a proxy and without a client certificate. Only boto3 supports these.
    """

    url: str
    region: str
    credentials: Callable[[], Credentials | None]
    certificates: Callable[[], str] = field(default=lambda: "")
    is_direct: bool = True

    @property
    def host(self) -> str:
        """The host with its port."""
        return urlsplit(self.url).netloc

    @property
    def protects_bodies(self) -> bool:
        """Whether no network can change a body on its way: TLS detects it, and the loopback device has no network."""
        parts = urlsplit(self.url)
        return parts.scheme == "https" or parts.hostname in ("127.0.0.1", "::1", "localhost")


def server_of_client(session: Session, client: S3Client) -> S3Server:
    """Return the server of a client of botocore. Uses only public names of botocore."""
    from botocore.httpsession import get_cert_path
    from botocore.utils import get_environ_proxies

    from .retries import is_botocore_error

    def credentials() -> Credentials | None:
        try:
            found = session.get_credentials()
            return None if found is None else cast(Credentials, found.get_frozen_credentials())
        except Exception as error:
            if not is_botocore_error(error):
                raise
            return None

    def certificates() -> str:
        own = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        return str(own or get_cert_path(True))

    url = client.meta.endpoint_url.rstrip("/")
    # The type stubs lack these options of botocore's `Config`.
    proxies, certificate = client.meta.config.proxies, client.meta.config.client_cert  # type: ignore[attr-defined]
    if proxies is None:
        proxies = get_environ_proxies(url)
    needs_boto3 = bool(proxies.get(urlsplit(url).scheme) or certificate)
    return S3Server(url, client.meta.region_name, credentials, certificates, not needs_boto3)


def server_of_variables(variables: Mapping[str, str]) -> S3Server | None:
    """Return the server that the variables of a job name; None if only botocore can find out everything.

    Its credentials are those of the job's role, or a key in the variables.
    """
    # botocore and boto3 take 27 MB of memory, and each fork of a process costs time for its memory. On AWS no variable
    # names a server.
    url = variables.get("AWS_ENDPOINT_URL", "").rstrip("/")
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    home = Path(variables.get("HOME", "/"), ".aws")
    others = any(variables.get(name) for name in _OTHER_SOURCES)
    if not url.startswith("http://") or not region or others or home.exists():
        return None
    access_key, secret_key = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
    if access_key and secret_key:
        key = SigningKey(access_key, secret_key, variables.get("AWS_SESSION_TOKEN"))
        return S3Server(url, region, lambda: key)
    if access_key or secret_key or not all(variables.get(name) for name in _NAMED):
        return None
    address, token_file = (variables[name] for name in _NAMED)
    return S3Server(url, region, RoleOfContainer(address, Path(token_file)).key) if _is_plain(address) else None


def _is_plain(address: str) -> bool:
    return address.startswith("http://")


class RoleOfContainer:
    """The credentials of a job's role, as ECS delivers them to a container.

    See "Container credential provider" in the AWS SDKs reference guide.
    """

    def __init__(self, address: str, token_file: Path, clock: Callable[[], float] = time.time) -> None:
        self._address, self._token_file, self._clock = address, token_file, clock
        self._key: SigningKey | None = None

    def key(self) -> SigningKey | None:
        """Return a key that is valid for some time; None if it cannot be fetched now."""
        if self._key is None or self._key.expires - self._clock() < RENEWAL:
            self._key = self._fetch()
        return self._key

    def _fetch(self) -> SigningKey | None:
        parts = urlsplit(self._address)
        connection = connection_to(parts.netloc, TIMEOUT)
        try:
            token = self._token_file.read_text(encoding="utf-8")
            connection.connect()
            connection.request("GET", parts.path, None, {"Host": parts.netloc, "Authorization": token})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            if answer.status != 200:
                return None
            return SigningKey(
                found["AccessKeyId"], found["SecretAccessKey"], found["Token"], _seconds(found["Expiration"])
            )
        except (OSError, ValueError, KeyError):
            return None
        finally:
            connection.close()


def _seconds(timestamp: str) -> float:
    """Return the seconds since 1970 of a timestamp in UTC."""
    from datetime import datetime

    return datetime.fromisoformat(timestamp).timestamp()
