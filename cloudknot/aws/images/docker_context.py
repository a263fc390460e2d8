"""Docker's contexts: named addresses of engines, as ``docker context ls`` lists them. Reads files of Docker only."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudknot.options.config import user_home

DEFAULT = "default"
"""The name of the context that is no file: ``DOCKER_HOST``, else the default socket."""
LIST = "`docker context ls` lists them, and `docker context use NAME` chooses one."

ELSEWHERE = f"If your engine listens elsewhere, set DOCKER_HOST to its address, or choose its context: {LIST}"
OTHER_SOCKET = (
    "An engine has the socket {socket}. Run `export DOCKER_HOST=unix://{socket}`, or choose its context with "
    "`docker context use`."
)


class ContextError(ValueError):
    """Docker's settings name a context that cannot be used. Its text is a sentence with a fix."""


@dataclass(frozen=True)
class DockerContext:
    """The address of an engine.

    Attributes
    ----------
    setting : str
        The setting that chose the context, for messages.
    host : str
        ``"unix:///..."``, ``"npipe:////./pipe/..."``, ``"tcp://..."`` or ``"ssh://..."``.
    certificates : tuple of str
        The files of the engine's authority, of this client's certificate and of its key. Empty without TLS.
    is_verified : bool
        Whether TLS checks the engine's certificate.
    """

    setting: str
    host: str
    certificates: tuple[str, ...] = ()
    is_verified: bool = True


def settings_folder() -> Path:
    """Return the folder of Docker's settings: ``DOCKER_CONFIG``, else ``~/.docker``."""
    folder = os.environ.get("DOCKER_CONFIG")
    return Path(folder) if folder else user_home() / ".docker"


def current() -> DockerContext | None:
    """Return the context that ``DOCKER_CONTEXT`` or ``docker context use`` chose; None for the default one.

    ``DOCKER_HOST`` wins over both, as for the command ``docker``.

    Raises
    ------
    ContextError
        The context does not exist, or has no address.
    """
    if os.environ.get("DOCKER_HOST"):
        return None
    chosen = os.environ.get("DOCKER_CONTEXT")
    name = chosen or _current_name()
    if name == DEFAULT:
        return None
    setting = f"DOCKER_CONTEXT={name}" if chosen else f"Docker's context {name!r}"
    folder = hashlib.sha256(name.encode()).hexdigest()
    contexts = settings_folder() / "contexts"
    meta = _read(contexts / "meta" / folder / "meta.json")
    endpoint = meta.get("Endpoints", {}).get("docker", {}) if isinstance(meta.get("Endpoints", {}), dict) else {}
    if not isinstance(endpoint, dict) or not endpoint.get("Host"):
        problem = "has no address of an engine" if meta else "does not exist"
        fix = "Correct or unset DOCKER_CONTEXT" if chosen else "Choose another one"
        raise ContextError(f"{setting} {problem}. {fix}: {LIST}")
    files = [contexts / "tls" / folder / "docker" / f"{kind}.pem" for kind in ("ca", "cert", "key")]
    certificates = tuple(str(file) for file in files) if all(file.is_file() for file in files) else ()
    return DockerContext(setting, str(endpoint["Host"]), certificates, not endpoint.get("SkipTLSVerify", False))


def other_sockets() -> Iterator[Path]:
    """Yield the existing sockets of engines in other places than the default one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    home = user_home()
    places = [
        # Docker Desktop on a Mac and on Linux, then programs in place of it.
        *(home / ".docker/run/docker.sock", home / ".docker/desktop/docker.sock"),
        *(home / ".colima/default/docker.sock", home / ".orbstack/run/docker.sock", home / ".rd/docker.sock"),
        *((Path(runtime, "docker.sock"), Path(runtime, "podman/podman.sock")) if runtime else ()),
    ]
    yield from (place for place in places if sys.platform != "win32" and place.is_socket())


def _current_name() -> str:
    return str(_read(settings_folder() / "config.json").get("currentContext") or DEFAULT)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
