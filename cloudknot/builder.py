"""DockerBuilder: build a context and push it, with the ``docker`` package.

The only module that imports docker, and only when something is built: an image that the registry has needs no engine.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from cloudknot.errors import ImageError

LOG_LINES = 20
"""Lines of a failed build that the error shows."""

NO_ENGINE = (
    "A Docker engine is needed to build the image, and none answers ({error}). Install and start one "
    '(Docker Desktop, or on Debian `apt-get install docker.io`), or run on this machine without: cloud="local".'
)


class Login(Protocol):
    """A registry's login; see `cloudknot.aws.ecr.RegistryLogin`."""

    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...


class DockerBuilder:
    """Builds and pushes with the engine that Docker's own settings (``DOCKER_HOST``, the context) name.

    Parameters
    ----------
    client : docker.APIClient, optional
        Default: made from the environment on first use.
    """

    def __init__(self, client: Any = None) -> None:
        self._given_client = client

    def build_and_push(self, files: Mapping[str, bytes], uri: str, login: Login, platform: str | None = None) -> None:
        """Build the context ``files`` as the image ``uri`` and push it.

        Raises
        ------
        ImageError
            There is no engine, a step of the build failed, or the registry refused the push.
        """
        client = self._client()
        self._follow(
            client.build(fileobj=as_tar(files), custom_context=True, tag=uri, platform=platform, rm=True, decode=True),
            "The image could not be built",
        )
        auth = {"username": login.username, "password": login.password}
        self._follow(client.push(uri, auth_config=auth, stream=True, decode=True), f"{uri} could not be pushed")

    def _client(self) -> Any:
        if self._given_client is not None:
            return self._given_client
        import docker
        from docker.errors import DockerException

        try:
            client = docker.from_env().api
            client.ping()
        except DockerException as error:
            raise ImageError(NO_ENGINE.format(error=error)) from error
        return client

    def _follow(self, events: Iterable[Mapping[str, Any]], what: str) -> None:
        """Read what the engine says until it is done; raise what it says of a failure."""
        from docker.errors import DockerException

        lines: list[str] = []
        try:
            for event in events:
                lines += _lines(event)
                if "error" in event:
                    raise ImageError("\n".join([f"{what}: {event['error']}", *lines[-LOG_LINES:]]))
        except DockerException as error:
            raise ImageError(f"{what}: {error}") from error


def _lines(event: Mapping[str, Any]) -> Iterator[str]:
    text = event.get("stream") or event.get("status") or ""
    return (line for line in text.splitlines() if line.strip())


def as_tar(files: Mapping[str, bytes]) -> io.BytesIO:
    """A build context as the engine takes it; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    return buffer
