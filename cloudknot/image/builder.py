"""DockerBuilder: build images and push them, with the ``docker`` package.

The only module that imports docker, and only when something is built: an image that the registry has needs no engine.
An image is built in two parts, its environment and the program on top, so that a new program is a small layer on an
environment which the engine or the registry has already.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from cloudknot.aws.images.ecr import RegistryLogin, Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import build_errors, context
from cloudknot.image.build_log import EngineLog

if TYPE_CHECKING:
    from docker import APIClient

SILENCE = 30 * 60
"""Seconds that the engine may say nothing for: a step of a build may install quietly."""
CHECK_TIMEOUT = 60
"""Seconds that the check of an image's Python may take."""

NO_ENGINE = (
    "A Docker engine is needed to build the image, and none answers ({error}). Install and start one "
    '(Docker Desktop, or on Debian `apt-get install docker.io`), or run on this machine without: cloud="local".'
)
NOT_SENT = " If the connection broke, just call again: layers that have arrived are not sent again."
_REFUSED = re.compile(r"denied|authori[sz]|authentication", re.IGNORECASE)
"""A registry's words for a login that it does not take."""


class DockerBuilder:
    """Builds and pushes with the engine that ``DOCKER_HOST``, or Docker's current context, names.

    Parameters
    ----------
    client : docker.APIClient, optional
        Default: made on first use.

    A context manager, at whose end the connections that it made are closed. Every method raises `ImageError` when
    there is no engine, a step of a build fails, the image cannot run its program, or a registry refuses.
    """

    def __init__(self, client: APIClient | None = None) -> None:
        self._given_client = client
        self._own_client: APIClient | None = None

    def __enter__(self) -> DockerBuilder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._own_client is not None:
            self._own_client.close()
            self._own_client = None

    def publish(self, image: Image, repository: Repository, uri: str) -> None:
        """Build what the repository lacks of an image, and push it as ``uri``.

        An environment that the repository has is pulled, not built; one that the engine has is not even pulled.
        """
        login, environment = repository.login(), _sibling(uri, image.environment_tag)
        files = context.environment_of(image.files)
        if files is not None:
            if image.nocache or not repository.has_tag(image.environment_tag):
                self._make_environment(image, files, environment)
                self.push(environment, login)
            elif not self._has(environment):
                self._pull(environment, login, image.platform)
        self._make_program(image, uri, environment)
        self.push(uri, login)

    def build(self, image: Image, uri: str) -> None:
        """Build an image on the engine alone, as ``name:tag``."""
        environment = _sibling(uri, image.environment_tag)
        files = context.environment_of(image.files)
        if files is not None:
            self._make_environment(image, files, environment)
        self._make_program(image, uri, environment)

    def tag(self, uri: str, other: str) -> None:
        """Give an image of the engine another name."""
        name, tag = _split(other)
        with self._translated(f"Naming {uri}"):
            self._client.tag(uri, name, tag, force=True)

    def push(self, uri: str, login: RegistryLogin | None = None) -> None:
        """Push an image; layers that the registry has are not sent again. Without a login, Docker's own is used."""
        auth = {"username": login.username, "password": login.password} if login else None
        title = f"Pushing {uri}"
        try:
            with self._translated(title), EngineLog(title, _brief("Pushing", uri)) as log:
                log.follow(self._client.push(uri, stream=True, decode=True, auth_config=auth))
        except ImageError as error:
            raise ImageError(f"{error}{'' if _REFUSED.search(str(error)) else NOT_SENT}") from error

    def _make_environment(self, image: Image, files: Mapping[str, bytes], uri: str) -> None:
        if image.nocache or not self._has(uri):
            self._build("Building the environment", image, files, uri)
        # Also of an image that is there: it may be one that was refused before.
        self._check(image, uri)

    def _make_program(self, image: Image, uri: str, environment: str) -> None:
        if context.environment_of(image.files) is not None:
            arguments = {"ENVIRONMENT": environment}
            self._build("Building the image", image, context.program_of(image.files), uri, arguments)
            if context.changes_environment(image.files):
                self._check_python(image, uri)
        else:
            self._build("Building the image", image, image.files, uri)
            self._check(image, uri)

    def _build(
        self,
        title: str,
        image: Image,
        files: Mapping[str, bytes],
        uri: str,
        arguments: dict[str, str] | None = None,
    ) -> None:
        labels: dict[str, str] = {}
        if context.ABOUT in files:
            said = context.about(files)
            labels = {"org.opencontainers.image.title": said["function"], "cloudknot.program": said["digest"]}
        with self._translated(title), EngineLog(title) as log:
            events = self._client.build(
                fileobj=as_tar(files, image.executables),
                custom_context=True,
                tag=uri,
                platform=image.platform,
                nocache=image.nocache,
                buildargs=arguments,
                labels=labels,
                timeout=SILENCE,
                rm=True,
                forcerm=True,
                decode=True,
            )
            try:
                log.follow(events)
            except ImageError as error:
                raise build_errors.explained(error, image) from error

    def _check(self, image: Image, uri: str) -> None:
        """Refuse an image of another architecture, or of another Python where the Dockerfile does not do so itself."""
        with self._translated(f"Looking at {uri}"):
            about = self._client.inspect_image(uri)
        found = f"{about['Os']}/{about['Architecture']}"
        if found != image.platform:
            raise build_errors.other_architecture(found, image)
        if context.python_check(image.python).encode() not in image.files[context.DOCKERFILE]:
            self._check_python(image, uri)

    def _check_python(self, image: Image, uri: str) -> None:
        with self._translated(f"Checking the Python of {uri}"):
            status, log = self._run(uri, ["python", "-c", context.python_check(image.python)])
        if status:
            raise build_errors.python_failed(log, image)

    def _run(self, uri: str, command: list[str]) -> tuple[int, str]:
        """Exit code and output of a command in an image."""
        from docker.errors import APIError

        client = self._client
        container = client.create_container(uri, command, entrypoint="", network_disabled=True)["Id"]
        try:
            client.start(container)
            status = int(client.wait(container, timeout=CHECK_TIMEOUT)["StatusCode"])
            return status, client.logs(container).decode("utf-8", "replace")
        except APIError as error:
            # The command is not in the image.
            if error.response is not None and error.response.status_code in (400, 404):
                return 127, str(error)
            raise
        finally:
            client.remove_container(container, force=True)

    def _has(self, uri: str) -> bool:
        from docker.errors import ImageNotFound

        try:
            with self._translated(f"Looking for {uri}", ImageNotFound):
                self._client.inspect_image(uri)
        except ImageNotFound:
            return False
        return True

    def _pull(self, uri: str, login: RegistryLogin, platform: str) -> None:
        auth = {"username": login.username, "password": login.password}
        title = f"Pulling {uri}"
        name, tag = _split(uri)
        with self._translated(title), EngineLog(title, _brief("Pulling", uri)) as log:
            log.follow(self._client.pull(name, tag, stream=True, decode=True, auth_config=auth, platform=platform))

    @property
    def _client(self) -> APIClient:
        if self._given_client is not None:
            return self._given_client
        if self._own_client is None:
            self._own_client = _connect()
        return self._own_client

    @contextlib.contextmanager
    def _translated(self, what: str, *passed: type[Exception]) -> Iterator[None]:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            yield
        except passed:
            raise
        except (DockerException, RequestException) as error:
            raise ImageError(f"{what} failed: {error}") from error


def _connect() -> APIClient:
    """A client of the engine. One is needed from here on, and if there is none this says so."""
    import docker
    from docker.context import ContextAPI
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    try:
        settings = kwargs_from_env()
        host, tls = settings.get("base_url"), settings.get("tls", False)
        if not host and (current := ContextAPI.get_current_context()):
            host, tls = current.Host, current.TLSConfig
        client = docker.APIClient(host, tls=tls, version="auto", timeout=SILENCE)
        client.ping()
    except (DockerException, OSError) as error:
        raise ImageError(NO_ENGINE.format(error=error)) from error
    return client


def _split(uri: str) -> tuple[str, str]:
    name, _, tag = uri.rpartition(":")
    return name, tag


def _brief(doing: str, uri: str) -> str:
    return f"{doing} the {'environment' if _split(uri)[1].startswith('env-') else 'image'}"


def _sibling(uri: str, tag: str) -> str:
    return f"{_split(uri)[0]}:{tag}"


def as_tar(files: Mapping[str, bytes], executables: Collection[str] = ()) -> io.BytesIO:
    """A build context as the engine takes it; the same files give the same bytes."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755 if path in executables else 0o644
            tar.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    return buffer
