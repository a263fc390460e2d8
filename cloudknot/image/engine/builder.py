"""DockerBuilder: build images and push them. An image that the registry has needs no Docker engine."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from cloudknot.aws.images.docker_context import settings_folder
from cloudknot.aws.images.ecr import RegistryLogin, Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import context
from cloudknot.image.engine import build_errors
from cloudknot.image.engine.build_log import EngineLog
from cloudknot.image.engine.connection import SILENCE, connect, failures
from cloudknot.image.engine.private_files import with_private_files

if TYPE_CHECKING:
    from docker import APIClient

CHECK_TIMEOUT = 60
"""Seconds that the check of an image's Python may take."""

CHECK_ENGINE = " Check the Docker engine with `docker info`, and try again."
ENGINE_LOST = "the connection to the Docker engine broke. It may have been stopped. Its error: "
TRY_AGAIN = " If the connection broke, try again: layers that have arrived are not sent again."
BAD_LOGIN = (
    " The registry refused the login or the push. On AWS, ask the administrator of your account for the policy that "
    "`cloudknot permissions create` prints. For another registry, run `docker login`."
)
_REFUSED = re.compile(r"denied|authori[sz]|authentication", re.IGNORECASE)
"""The words of a registry that refuses a login or a push."""


class DockerBuilder:
    """A client of the Docker engine that ``DOCKER_HOST``, or Docker's current context, names.

    It is a context manager that closes its connections at the end.

    Every method raises `ImageError` when no engine answers, a build step fails, the image cannot run its program, or
    the registry refuses a request.

    Parameters
    ----------
    client : docker.APIClient, optional
        Default: a client that is created on first use.
    """

    description = "the Docker engine of this machine"

    def __init__(self, client: APIClient | None = None) -> None:
        self._given_client = client
        self._own_client: APIClient | None = None
        self._is_stopped = False

    def __enter__(self) -> DockerBuilder:
        self._own_client, self._is_stopped = None, False
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the builds and pushes of all threads, and refuse later ones until the next ``with`` block.

        The engine keeps finished steps and no half-made image.
        """
        # The closed client stays, so that a thread between two requests makes no new connection.
        self._is_stopped = True
        if self._own_client is not None:
            self._own_client.close()

    def publish(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the parts of an image that the repository lacks, and push the image as ``uri``.

        An environment that is in the repository is pulled instead of built, unless the engine has it.
        """
        # Environment and program are separate images: a new program is then one small layer on an environment that the
        # engine or the registry already has.
        login, environment = repository.login(), _sibling(uri, image.environment_tag)
        files = context.environment_of(image.files)
        if files is not None:
            if image.nocache or not repository.has_tag(image.environment_tag):
                self._pull_base(image, login)
                self._make_environment(image, files, environment)
                self.push(environment, login)
            elif not self._has(environment):
                self._pull(environment, login, image.platform)
        self._make_program(image, uri, environment)
        self.push(uri, login)

    def publish_system(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the system of an image and push it as ``uri``, unless the repository has it.

        The packages of the environment, and so the credentials of their index, stay out of the engine.
        """
        files = context.system_of(image.files)
        assert files is not None
        if image.nocache or not repository.has_tag(_split(uri)[1]):
            login = repository.login()
            if image.nocache or not self._has(uri):
                self._pull_base(image, login)
                self._build("Building the system", image, files, uri)
            self._check_platform(image, uri)
            self.push(uri, login)

    def build(self, image: Image, uri: str) -> None:
        """Build an image as ``name:tag``, without pushing it."""
        environment = _sibling(uri, image.environment_tag)
        files = context.environment_of(image.files)
        if files is not None:
            self._make_environment(image, files, environment)
        self._make_program(image, uri, environment)

    def push_own(self, name: str, image: Image, uri: str, login: RegistryLogin) -> bool:
        """Push the base image ``name`` as ``uri``, and return True; return False if the engine does not have it."""
        if not self._has(name):
            return False
        self._check_platform(image, name)
        self.tag(name, uri)
        self.push(uri, login)
        return True

    def tag(self, uri: str, new_uri: str) -> None:
        """Add another name to an image of the engine."""
        name, tag = _split(new_uri)
        with self._translated(f"Naming {uri}"):
            self._client.tag(uri, name, tag, force=True)

    def remove(self, uri: str) -> None:
        """Remove a name from an image of the engine, and the image itself with its last name."""
        with self._translated(f"Removing {uri}"):
            if self._has(uri):
                self._client.remove_image(uri)

    def push(self, uri: str, login: RegistryLogin | None = None) -> None:
        """Push an image.

        Layers that the registry has are not sent again. Without ``login``, the engine uses Docker's own settings.
        """
        # The login goes with this request only. It is never written to Docker's own settings.
        auth = {"username": login.username, "password": login.password} if login else None
        title = f"Pushing the image {uri}"
        try:
            with self._translated(title, fix=""), EngineLog(title, _brief("Pushing", uri)) as log:
                log.follow(self._client.push(uri, stream=True, decode=True, auth_config=auth))
        except ImageError as error:
            fix = BAD_LOGIN if _REFUSED.search(str(error)) else TRY_AGAIN
            raise ImageError(f"{str(error).rstrip('.')}.{fix}") from error

    def _make_environment(self, image: Image, files: Mapping[str, bytes], uri: str) -> None:
        if image.nocache or not self._has(uri):
            self._build("Building the image", image, with_private_files(files, image), uri)
        # An existing image is checked as well: an earlier call may have built it and then refused it.
        self._check(image, uri)

    def _make_program(self, image: Image, uri: str, environment: str) -> None:
        if context.environment_of(image.files) is not None:
            arguments = {"ENVIRONMENT": environment}
            self._build("Building the image", image, context.program_of(image.files), uri, arguments)
            # A stage that only copies files keeps the Python of the environment, which is checked already.
            if context.changes_environment(image.files):
                self._check_python(image, uri)
        else:
            self._build("Building the image", image, with_private_files(image.files, image), uri)
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
        if context.PROGRAM_INFO in files:
            info = context.program_info(files)
            labels = {"org.opencontainers.image.title": info["function"], "cloudknot.program": info["digest"]}
        with self._translated(title, image=image, files=files), EngineLog(title) as log:
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
                raise build_errors.explain(error, image) from error

    def _check(self, image: Image, uri: str) -> None:
        """Raise `ImageError` for an image with another architecture or another Python than its program needs."""
        self._check_platform(image, uri)
        # The Dockerfile that cloudknot renders checks its Python while it is built.
        if context.python_check(image.python).encode() not in image.files[context.DOCKERFILE]:
            self._check_python(image, uri)

    def _check_platform(self, image: Image, uri: str) -> None:
        """Raise `ImageError` if ``uri`` is for another architecture than the image needs."""
        with self._translated(f"Inspecting {uri}"):
            description = self._client.inspect_image(uri)
        platform = f"{description['Os']}/{description['Architecture']}"
        # An engine builds on a base image of another architecture without an error, and jobs could not run the image.
        if platform != image.platform:
            raise build_errors.wrong_architecture(platform, image)

    def _check_python(self, image: Image, uri: str) -> None:
        with self._translated(f"Checking the Python of {uri}"):
            status, log = self._run(uri, ["python", "-c", context.python_check(image.python)])
        if status:
            raise build_errors.python_failed(log, image)

    def _run(self, uri: str, command: list[str]) -> tuple[int, str]:
        """Run a command in an image and return its exit code and output."""
        from docker.errors import APIError

        client = self._client
        # A base image's entry point would take the command as its arguments.
        container = client.create_container(uri, command, entrypoint="", network_disabled=True)["Id"]
        try:
            client.start(container)
            status = int(client.wait(container, timeout=CHECK_TIMEOUT)["StatusCode"])
            return status, client.logs(container).decode("utf-8", "replace")
        except APIError as error:
            # The engine refuses to start a command that the image lacks. A shell would report that as 127.
            if error.response is not None and error.response.status_code in (400, 404):
                return 127, str(error)
            raise
        finally:
            client.remove_container(container, force=True)

    def _has(self, uri: str) -> bool:
        from docker.errors import ImageNotFound

        try:
            with self._translated(f"Looking for {uri}", passed=ImageNotFound):
                self._client.inspect_image(uri)
        except ImageNotFound:
            return False
        return True

    def _pull_base(self, image: Image, login: RegistryLogin) -> None:
        """Pull a base image of the user's own registry. The engine has no login of its own for it."""
        base = image.base_image
        if base.startswith(f"{login.registry}/") and "@" not in base and not self._has(base):
            self._pull(base if ":" in base.rpartition("/")[2] else f"{base}:latest", login, image.platform)

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
            self._own_client = connect()
            if self._is_stopped:
                self._own_client.close()
        return self._own_client

    @contextlib.contextmanager
    def _translated(
        self,
        title: str,
        *,
        fix: str = CHECK_ENGINE,
        passed: type[Exception] | tuple[()] = (),
        image: Image | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Iterator[None]:
        """Turn errors of the engine into `ImageError`, except those of the type ``passed``.

        With the ``image`` and the ``files`` of a build, a Dockerfile that the engine refuses is explained, too.
        """
        from docker.credentials.errors import StoreError
        from docker.errors import APIError

        try:
            yield
        except passed:
            raise
        except StoreError as error:
            raise ImageError(f"{title} failed. {_no_helper(error)}") from error
        except failures() as error:
            if image and files and isinstance(error, APIError) and error.is_client_error():
                text = files[context.DOCKERFILE].decode("utf-8", "replace")
                raise build_errors.refused(title, str(error.explanation), text, image) from error
            if "Credentials store error" in str(error):
                raise ImageError(f"{title} failed. {_no_helper(error)}") from error
            broken = not isinstance(error, APIError)
            reason = str(error).rstrip(".")
            raise ImageError(f"{title} failed: {ENGINE_LOST if broken else ''}{reason}.{fix}") from error


def _no_helper(error: Exception) -> str:
    """Return the sentences for a credential helper that Docker's settings name, and that cannot be run."""
    settings = settings_folder() / "config.json"
    return (
        f"The credential helper in Docker's settings cannot be used: {str(error).rstrip('.')}. Install it, or put its "
        f"folder on the PATH. Or remove credsStore and credHelpers from {settings}, and log in with `docker login`."
    )


def _split(uri: str) -> tuple[str, str]:
    name, _, tag = uri.rpartition(":")
    return name, tag


def _brief(verb: str, uri: str) -> str:
    parts = {"env": "environment", "system": "system"}
    return f"{verb} the {parts.get(_split(uri)[1].partition('-')[0], 'image')}"


def _sibling(uri: str, tag: str) -> str:
    return f"{_split(uri)[0]}:{tag}"


def as_tar(files: Mapping[str, bytes], executables: Collection[str] = ()) -> io.BytesIO:
    """Return a build context as the tar archive that the engine reads. The same files give the same bytes."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="utf-8") as tar:
        for path, data in sorted(files.items()):
            # By default, TarInfo has no time and no owner, so the archive is the same on every machine.
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755 if path in executables else 0o644
            tar.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    return buffer
