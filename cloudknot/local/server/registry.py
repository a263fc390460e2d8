"""A client of a container registry's HTTP API: its images, and a check of the login.

See the OCI distribution specification 1.1.
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

TIMEOUT = 8.0
"""Seconds without an answer until a request has failed."""
USERNAME_VARIABLE = "CLOUDKNOT_REGISTRY_USERNAME"
PASSWORD_VARIABLE = "CLOUDKNOT_REGISTRY_PASSWORD"
MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

# Docker does the same: it speaks HTTP to a registry on loopback, and HTTPS to any other.
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3})(:\d+)?")


@dataclass(frozen=True)
class ImageManifest:
    """An image's manifest in a registry."""

    digest: str
    media_type: str
    body: bytes

    @property
    def size(self) -> int:
        """The bytes of the configuration and the compressed layers."""
        content = json.loads(self.body)
        return sum(part.get("size", 0) for part in (content.get("config", {}), *content.get("layers", ())))


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def login_from_environment(registry: str) -> RegistryLogin:
    """Return the login in ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``, for a registry."""
    # Without the variables, only a registry without access control accepts the login. "AWS" is ECR's user name.
    return RegistryLogin(registry, os.environ.get(USERNAME_VARIABLE, "AWS"), os.environ.get(PASSWORD_VARIABLE, ""))


class Registry:
    """A client of one registry with one login.

    Parameters
    ----------
    login : RegistryLogin
        Its ``registry`` is the address, for example ``"127.0.0.1:5000"``. A registry without access control ignores
        user name and password.
    """

    def __init__(self, login: RegistryLogin) -> None:
        self.login = login

    @property
    def address(self) -> str:
        """Host and port, for example ``"127.0.0.1:5000"``."""
        return self.login.registry

    @property
    def url(self) -> str:
        """The address with ``http://`` or ``https://``."""
        return f"{'http' if _LOOPBACK.fullmatch(self.address) else 'https'}://{self.address}"

    def check(self) -> None:
        """Raise `CloudknotConfigurationError` unless the registry answers and accepts the login."""
        try:
            status = self._request("GET", "/v2/").status
        except CloudError as error:
            raise CloudknotConfigurationError(str(error)) from error
        if status in (401, 403):
            raise CloudknotConfigurationError(
                f"The registry {self.address} refuses the login in {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}. "
                f"Set these environment variables to the user name and password for `docker login {self.address}`."
            )
        if status != 200:
            raise CloudknotConfigurationError(
                f"The server at {self.address} does not answer as a container registry does: "
                f"{self.url}/v2/ returned HTTP {status}. Pass the address of a working registry as registry=."
            )

    def tags(self, repository: str) -> list[str]:
        """Return the tags in a repository, sorted. A repository that the registry does not know has none."""
        # A registry creates a repository at the first push, so one that exists in ECR may be unknown here.
        tags: list[str] = []
        path = f"/v2/{repository}/tags/list"
        while path:
            answer = self._request("GET", path)
            if answer.status == 404:
                return []
            # Some registries send null for a repository without tags.
            tags += json.loads(self._checked(answer, path).body)["tags"] or []
            path = _next_page(answer.headers.get("link", ""))
        return sorted(tags)

    def manifest(self, repository: str, reference: str) -> ImageManifest | None:
        """Return the manifest for a tag or digest, or None if it does not exist."""
        path = f"/v2/{repository}/manifests/{reference}"
        # Without these types, a registry may convert the manifest to an old format with another digest.
        answer = self._request("GET", path, {"Accept": ", ".join(MEDIA_TYPES)})
        if answer.status == 404:
            return None
        self._checked(answer, path)
        return ImageManifest(answer.headers["docker-content-digest"], answer.headers["content-type"], answer.body)

    def put(self, repository: str, tag: str, media_type: str, body: bytes) -> None:
        """Store a manifest under a tag. The repository must hold its layers."""
        path = f"/v2/{repository}/manifests/{tag}"
        self._checked(self._request("PUT", path, {"Content-Type": media_type}, body), path)

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags. Does nothing if the image does not exist."""
        path = f"/v2/{repository}/manifests/{digest}"
        answer = self._request("DELETE", path)
        if answer.status != 404:
            self._checked(answer, path)

    def _checked(self, answer: _Answer, path: str) -> _Answer:
        if answer.status >= 300:
            message = answer.body.decode(errors="replace")[:500]
            raise CloudError(
                f"The registry {self.address} returned HTTP {answer.status} for {path}. "
                f"Correct the problem that its answer names: {message}"
            )
        return answer

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> _Answer:
        secret = base64.b64encode(f"{self.login.username}:{self.login.password}".encode()).decode()
        connection_type: type[HTTPConnection] = HTTPConnection if self.url.startswith("http:") else HTTPSConnection
        connection = connection_type(self.address, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, {"Authorization": f"Basic {secret}", **(headers or {})})
            answer = connection.getresponse()
            return _Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        except (OSError, HTTPException) as error:
            raise CloudError(
                f"The registry {self.address} does not answer: {error}. "
                "Start the registry, or pass the address of another one as registry=."
            ) from error
        finally:
            connection.close()


def _next_page(link: str) -> str:
    """Return the path in a ``Link: <...>; rel="next"`` header, empty if there is no next page."""
    match = re.match(r'<([^>]+)>;\s*rel="?next"?', link)
    if match is None:
        return ""
    parts = urlsplit(match[1])
    return f"{parts.path}?{parts.query}"
