"""An image on the embedded cloud: a directory with its own virtual environment.

::

    <cloud's directory>/images/<tag>/                 the build context, and a link to its environment
    <cloud's directory>/environments/<digest>/        a virtual environment with exactly the requirements

``CLOUDKNOT_LOCAL_ENVIRONMENTS`` names another directory for environments, which several clouds can share.
An environment is made once per set of requirements. Nothing half-made stays: an image appears by a rename, an
environment counts only once its marker is there, and is made again when it does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError, ResourceExistsException
from cloudknot.local.state import claim, locked

ENVIRONMENTS_VARIABLE = "CLOUDKNOT_LOCAL_ENVIRONMENTS"
INSTALL_TIMEOUT = 30 * 60.0
"""Seconds that an installation may take."""
SHOWN_LINES = 15

_COMPLETE = ".complete"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_PIP = ("-m", "pip", "install", "--no-input", "--no-user", "--disable-pip-version-check", "-r")
_NOT_FOR_PIP = ("PYTHON", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class DirectoryStore:
    """The images of one embedded cloud, as directories that the process runner finds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, image: Image, repository: Repository, uri: str) -> None:
        """Write the image as a directory, and register its tags with ECR."""
        materialise(self._directory, image)
        if image.has_environment_stage:
            register(repository, image.environment_tag)
        register(repository, image.tag)


def materialise(directory: Path, image: Image) -> Path:
    """Write an image where the process runner looks for it, unless it is there, and return its directory.

    Parameters
    ----------
    directory : Path
        The cloud's directory.
    image : Image

    Raises
    ------
    CloudknotInputError
        When the directory is somebody else's.
    ImageError
        When the requirements cannot be installed; the installer's last lines are in the text.
    """
    if image.needs_engine:
        raise ImageError(
            f"{image.needs_engine} needs a Docker engine: start the cloud with `cloudknot local start --runner docker "
            "--registry HOST:PORT`."
        )
    claim(directory)
    environment = _environment(directory, image)
    target = directory / "images" / image.tag
    if not target.is_dir():
        _write(target, image.files, environment)
    return target


def register(repository: Repository, tag: str) -> None:
    """Let ECR know of an image whose only tag this is. It has a layer, because moto's digest is one of the layers."""
    layers = [{"digest": f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"}]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": {"digest": tag}, "layers": layers}
    with contextlib.suppress(ResourceExistsException):
        repository.cloud.call(
            "ecr",
            "put_image",
            repositoryName=repository.name,
            imageTag=tag,
            imageManifest=json.dumps(manifest),
            imageManifestMediaType=_MANIFEST_TYPE,
        )


def _write(target: Path, files: Mapping[str, bytes], environment: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # Relative inside the cloud's directory, which may be moved.
        own = environment.is_relative_to(target.parent.parent)
        (temporary / "environment").symlink_to(os.path.relpath(environment, target) if own else environment)
        temporary.rename(target)
    except OSError:
        # Somebody else was faster with the same content, or the disk is at fault.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _environment(directory: Path, image: Image) -> Path:
    """The virtual environment of an image's requirements, made if it is missing, half-made or broken."""
    environments = _environments(directory)
    environments.mkdir(parents=True, exist_ok=True)
    environment = environments / image.environment_digest
    with locked(environments / f"{image.environment_digest}.lock") as lock:
        if not _is_complete(environment):
            shutil.rmtree(environment, ignore_errors=True)
            _make(environment, image.requirements, directory / "virtualenv", lock)
    return environment


def _environments(directory: Path) -> Path:
    """Return the directory of the environments: the one that clouds share, else the cloud's own."""
    shared = os.environ.get(ENVIRONMENTS_VARIABLE)
    return Path(shared).expanduser().absolute() if shared else directory / "environments"


def _is_complete(environment: Path) -> bool:
    return (environment / _COMPLETE).exists() and (environment / "bin" / "python").exists()


def _make(environment: Path, requirements: Sequence[str], cache: Path, lock: int) -> None:
    try:
        _make_virtual_environment(environment, cache)
        listed = environment / "requirements.txt"
        listed.write_text("".join(f"{line}\n" for line in requirements))
        if requirements:
            _install(environment, listed, requirements, lock)
        (environment / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise


def _make_virtual_environment(environment: Path, cache: Path) -> None:
    from virtualenv import cli_run

    options = ["--no-setuptools", "--no-periodic-update", "--activators", "", "--app-data", str(cache)]
    try:
        cli_run([str(environment), "--python", sys.executable, *options], setup_logging=False)
    except (Exception, SystemExit) as error:
        raise ImageError(f"virtualenv could not make {environment} for {sys.executable}: {error}") from error


def _install(environment: Path, listed: Path, requirements: Sequence[str], lock: int) -> None:
    command = [str(environment / "bin" / "python"), "-I", *_PIP, str(listed)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_pip_environment(),
        # If this process dies, pip goes on; nobody else is to install here until it has ended.
        pass_fds=[lock],
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=INSTALL_TIMEOUT)
    except BaseException as error:
        _kill(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise ImageError(_text(requirements, f"not ready after {INSTALL_TIMEOUT / 60:.0f} minutes")) from error
        raise
    if process.returncode:
        raise ImageError(_text(requirements, "\n".join(output.strip().splitlines()[-SHOWN_LINES:])))


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.communicate()


def _pip_environment() -> dict[str, str]:
    """The user's environment, with the index and the proxy that pip is to use, but nothing about other Pythons."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_PIP)}


def _text(requirements: Sequence[str], said: str) -> str:
    wanted = "\n".join(f"    {line}" for line in requirements)
    return (
        f"The program's requirements could not be installed:\n{wanted}\npip said:\n{said}\n"
        "Correct them with Knot(..., requirements=[...]) and call again."
    )
