"""Connect to the Docker engine that ``DOCKER_HOST``, or Docker's current context, names.

Only this folder imports ``docker``, and only when an engine is asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudknot.aws.images import docker_context
from cloudknot.errors import ImageError

if TYPE_CHECKING:
    from docker import APIClient, TLSConfig

ANSWER_TIMEOUT = 2.0
"""Seconds in which an engine must answer a first request."""
# A step of a build may install packages for minutes without printing a line.
SILENCE = 30 * 60
"""Seconds without a line from the engine after which a build, push or pull fails."""
DEFAULT_HOST = "unix:///var/run/docker.sock"

NO_ENGINE = "A Docker engine is needed to build the image, and {problem}. {fix} Docker's error: {error}"
NOT_INSTALLED = "Install and start one: Docker Desktop, or on Debian `apt-get install docker.io`."
NOT_RUNNING = "Start it: open Docker Desktop, or on Linux run `sudo systemctl start docker`."
NOT_PERMITTED = (
    "Add yourself to the group of its socket with `sudo usermod --append --groups docker $USER`, and log in again."
)


class EngineAddress(NamedTuple):
    """The address of an engine, and the setting that names it."""

    host: str | None
    tls: TLSConfig | bool
    setting: str


def engine_address() -> EngineAddress:
    """Return the address that ``DOCKER_HOST`` or Docker's current context names; host None for the default socket.

    Raises
    ------
    ContextError
        The context does not exist.
    """
    from docker.tls import TLSConfig
    from docker.utils import kwargs_from_env

    settings = kwargs_from_env()
    host, tls = settings.get("base_url"), settings.get("tls", False)
    if host:
        return EngineAddress(host, tls, f"DOCKER_HOST={os.environ['DOCKER_HOST']}")
    # docker-py ignores DOCKER_CONTEXT, and takes the default socket in place of a missing context.
    current = docker_context.current()
    if current is None:
        return EngineAddress(None, tls, "")
    if not current.certificates:
        return EngineAddress(current.host, False, current.setting)
    authority, *client = current.certificates
    tls = TLSConfig(client_cert=(client[0], client[1]), ca_cert=authority, verify=current.is_verified)
    return EngineAddress(current.host, tls, current.setting)


def engine_answers(timeout: float = ANSWER_TIMEOUT) -> bool:
    """Return whether the engine answers within ``timeout`` seconds."""
    try:
        _open(engine_address(), timeout).close()
    except failures():
        return False
    return True


def connect() -> APIClient:
    """Return a client of the engine.

    Raises
    ------
    ImageError
        No engine answers. The message names the setting to correct, or the way to install or start one.
    """
    setting = ""
    try:
        address = engine_address()
        setting = address.setting
        # The first request has a short time, because a wrong address may never answer.
        _open(address, 5 * ANSWER_TIMEOUT).close()
        return _open(address, SILENCE)
    except docker_context.ContextError as error:
        raise ImageError(f"A Docker engine is needed to build the image. {error}") from error
    except failures() as error:
        raise ImageError(_no_engine(error, setting)) from error


def failures() -> tuple[type[Exception], ...]:
    """Return the types of all errors of an engine: its answers, a broken connection, and an invalid address."""
    from http.client import HTTPException

    from docker.errors import DockerException, StreamParseError
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    return DockerException, StreamParseError, RequestException, HTTPError, HTTPException, OSError, ValueError


def _open(address: EngineAddress, timeout: float) -> APIClient:
    host = address.host or DEFAULT_HOST
    if sys.platform != "win32" and host.startswith("unix://"):
        # First, because docker-py leaves its own socket open when this fails.
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(timeout)
            knock.connect(host.removeprefix("unix://"))
    # The client's first request asks for the version of the engine.
    client: APIClient = _client_type()(address.host, tls=address.tls, version="auto", timeout=timeout)
    return client


def _client_type() -> Any:
    import docker
    from requests.exceptions import ConnectionError as BrokenConnection

    class _Client(docker.APIClient):
        """A client that ends its unfinished builds, pulls and pushes when it is closed, also from another thread."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._lock, self._is_closed = threading.Lock(), False
            self._answers: weakref.WeakSet[Any] = weakref.WeakSet()
            super().__init__(*arguments, **options)

        def send(self, request: Any, **options: Any) -> Any:
            if self._is_closed:
                raise BrokenConnection("it was stopped here")
            answer = super().send(request, **options)
            with self._lock:
                self._answers.add(answer)
                is_late = self._is_closed
            # The client was closed while the engine prepared its answer.
            if is_late:
                _hang_up(answer)
            return answer

        def close(self) -> None:
            with self._lock:
                self._is_closed = True
                answers = list(self._answers)
            for answer in answers:
                _hang_up(answer)
            super().close()

    return _Client


def _hang_up(answer: Any) -> None:
    """End the connection of an answer, which another thread may be reading."""
    file = answer.raw._fp.fp  # None after the end of the answer.
    connection = getattr(getattr(file, "raw", None), "_sock", None)
    if connection is not None:
        # The engine goes on with a build until its connection ends. A shutdown wakes the reading thread, which then
        # closes the answer. To close it here would take the file away from that thread at any point of its work.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    elif file is not None:
        answer.close()


def _no_engine(error: Exception, setting: str) -> str:
    text = str(error).rstrip(".")
    is_installed = shutil.which("docker") is not None or shutil.which("dockerd") is not None
    if "ermission denied" in text:
        problem, fix = "this user may not use the engine of this machine", NOT_PERMITTED
    elif setting.startswith("DOCKER_HOST"):
        problem = f"none answers at {setting}"
        fix = "Correct DOCKER_HOST, or unset it to use the engine of this machine."
    elif setting:
        problem, fix = f"none answers at {setting}", "Choose another with `docker context use`, or start this one."
    elif socket := next(docker_context.other_sockets(), None):
        problem, fix = "none answers at the default address", docker_context.OTHER_SOCKET.format(socket=socket)
    elif is_installed:
        problem, fix = (
            "Docker is installed here, but its engine is not running",
            f"{NOT_RUNNING} {docker_context.ELSEWHERE}",
        )
    else:
        problem, fix = "none is installed on this machine", f"{NOT_INSTALLED} {docker_context.ELSEWHERE}"
    return NO_ENGINE.format(problem=problem, fix=fix, error=text)
