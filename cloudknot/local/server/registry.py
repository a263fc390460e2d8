"""A container registry by its HTTP API: what it holds, and whether it lets us in.

Source: OCI distribution specification 1.1. A registry on loopback speaks HTTP, any other HTTPS, as with Docker.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.errors import CloudError, CloudknotConfigurationError

TIMEOUT = 30.0
USERNAME_VARIABLE = "CLOUDKNOT_REGISTRY_USERNAME"
PASSWORD_VARIABLE = "CLOUDKNOT_REGISTRY_PASSWORD"
MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?")


@dataclass(frozen=True)
class ImageManifest:
    """An image as a registry has it."""

    digest: str
    media_type: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of the configuration and the layers, compressed."""
        content = json.loads(self.body)
        return sum(part.get("size", 0) for part in (content.get("config", {}), *content.get("layers", ())))


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def login_from_environment(registry: str) -> RegistryLogin:
    """The login that ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD`` give for a registry.

    Without them it is one that only a registry which asks for none takes.
    """
    return RegistryLogin(registry, os.environ.get(USERNAME_VARIABLE, "AWS"), os.environ.get(PASSWORD_VARIABLE, ""))


class Registry:
    """One registry, seen with one login.

    Parameters
    ----------
    login : RegistryLogin
        Its ``registry`` is the address, for example ``"127.0.0.1:5000"``. A registry without a login ignores the rest.
    """

    def __init__(self, login: RegistryLogin) -> None:
        self.login = login

    @property
    def address(self) -> str:
        return self.login.registry

    @property
    def url(self) -> str:
        """``http://`` or ``https://`` and the address."""
        return f"{'http' if _LOOPBACK.fullmatch(self.address) else 'https'}://{self.address}"

    def check(self) -> None:
        """Raise `CloudknotConfigurationError` unless the registry answers and takes the login."""
        try:
            status = self._request("GET", "/v2/").status
        except CloudError as error:
            raise CloudknotConfigurationError(f"{error} Start the registry, or name another.") from error
        if status in (401, 403):
            raise CloudknotConfigurationError(
                f"The registry {self.address} does not take the login of {USERNAME_VARIABLE} and "
                f"{PASSWORD_VARIABLE}. Set them to what `docker login` would be told."
            )
        if status != 200:
            raise CloudknotConfigurationError(f"{self.url}/v2/ answers {status}: that is no container registry.")

    def tags(self, repository: str) -> list[str]:
        """The tags in a repository, sorted; none for one that the registry has never seen."""
        found: list[str] = []
        path = f"/v2/{repository}/tags/list"
        while path:
            answer = self._request("GET", path)
            if answer.status == 404:
                return []
            found += json.loads(self._checked(answer, path).body)["tags"] or []
            path = _next_page(answer.headers.get("link", ""))
        return sorted(found)

    def manifest(self, repository: str, reference: str) -> ImageManifest | None:
        """The image of a tag or digest; None when there is none."""
        path = f"/v2/{repository}/manifests/{reference}"
        answer = self._request("GET", path, {"Accept": ", ".join(MEDIA_TYPES)})
        if answer.status == 404:
            return None
        self._checked(answer, path)
        return ImageManifest(answer.headers["docker-content-digest"], answer.headers["content-type"], answer.body)

    def put(self, repository: str, tag: str, media_type: str, body: bytes) -> None:
        """Give a tag to a manifest whose layers the repository has."""
        path = f"/v2/{repository}/manifests/{tag}"
        self._checked(self._request("PUT", path, {"Content-Type": media_type}, body), path)

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags; without one there is nothing to do."""
        path = f"/v2/{repository}/manifests/{digest}"
        answer = self._request("DELETE", path)
        if answer.status != 404:
            self._checked(answer, path)

    def _checked(self, answer: _Answer, path: str) -> _Answer:
        if answer.status >= 300:
            said = answer.body.decode(errors="replace")[:500]
            raise CloudError(f"The registry {self.address} answers {answer.status} to {path}: {said}")
        return answer

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> _Answer:
        secret = base64.b64encode(f"{self.login.username}:{self.login.password}".encode()).decode()
        kind: type[HTTPConnection] = HTTPConnection if self.url.startswith("http:") else HTTPSConnection
        connection = kind(self.address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, {"Authorization": f"Basic {secret}", **(headers or {})})
            answer = connection.getresponse()
            return _Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        except (OSError, HTTPException) as error:
            raise CloudError(f"The registry {self.address} does not answer: {error}.") from error
        finally:
            connection.close()


def _next_page(link: str) -> str:
    """The path in a ``Link: <...>; rel="next"`` header, empty without one."""
    found = re.match(r'<([^>]+)>;\s*rel="?next"?', link)
    if found is None:
        return ""
    parts = urlsplit(found[1])
    return f"{parts.path}?{parts.query}"
