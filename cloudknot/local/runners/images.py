"""Images of the embedded cloud: directories with a virtual environment each.

::

    <cloud's directory>/images/<tag>/                 the build context, and a link to its environment
    <cloud's directory>/environments/<digest>/        a virtual environment with exactly the requirements

Images with the same requirements share an environment. ``CLOUDKNOT_LOCAL_ENVIRONMENTS`` names another directory for
environments, for several clouds together.
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
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError, ResourceExistsException
from cloudknot.local.runners.full_disk import NO_SPACE
from cloudknot.local.state import check_owner, claim, locked, own_folder, usable
from cloudknot.program.packages.target import InstallTarget

ENVIRONMENTS_VARIABLE = "CLOUDKNOT_LOCAL_ENVIRONMENTS"
INSTALL_TIMEOUT = 30 * 60.0
"""Seconds for the installation of the requirements of an image."""
SHOWN_LINES = 15
"""Lines of pip's output in an error message."""

# The marker of a complete environment, written last. An environment without it is deleted and built again.
_COMPLETE = ".complete"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_PIP = ("-m", "pip", "install", "--no-input", "--no-user", "--disable-pip-version-check", "-r")
# pip keeps the user's index and proxy, but not settings that would install into another Python.
_NOT_FOR_PIP = ("PYTHON", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class DirectoryStore:
    """The image store of an embedded cloud with the process runner: directories on this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def target(self) -> InstallTarget:
        """This machine: its processes are the jobs, whatever instance types a knot has."""
        return InstallTarget.this_machine()

    def put(self, image: Image, repository: Repository, uri: str) -> None:
        """Write an image as a directory, and register its tags with ECR."""
        materialise(self._directory, image)
        if image.has_environment_stage:
            register(repository, image.environment_tag)
        register(repository, image.tag)


def materialise(directory: Path, image: Image) -> Path:
    """Write an image as a directory for the process runner, unless it exists already. Return the directory.

    Parameters
    ----------
    directory : Path
        The directory of the embedded cloud.
    image : Image

    Raises
    ------
    CloudknotConfigurationError
        The directory cannot be written.
    CloudknotInputError
        The directory is in use for something other than an embedded cloud. Or a folder of programs belongs to another
        user.
    ImageError
        The requirements cannot be installed, or the image needs a Docker engine.
    """
    if image.needs_engine:
        raise ImageError(
            f"The image cannot be built without a Docker engine, because of {image.needs_engine}. This embedded cloud "
            "runs jobs as processes. Stop it and start one that runs containers: `cloudknot local stop`, then "
            "`cloudknot local start --runner docker --registry HOST:PORT`."
        )
    target = directory / "images" / image.tag
    with usable(directory):
        claim(directory)
        environment = _environment(directory, image)
        if not target.is_dir():
            _write(target, image.files, environment)
    return target


def register(repository: Repository, tag: str) -> None:
    """Register an image with this single tag in ECR. ECR holds only a manifest, and no content."""
    # moto takes an image's digest from its layers. This layer depends on the tag, so the digests differ.
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
    own_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # A relative link within the cloud's directory, because that directory may be moved.
        is_inside = environment.is_relative_to(target.parent.parent)
        (temporary / "environment").symlink_to(os.path.relpath(environment, target) if is_inside else environment)
        # An image appears by this rename, so no other session ever sees half of one.
        temporary.rename(target)
    except OSError:
        # Another session may have written the same image first. Otherwise the disk failed.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _environment(directory: Path, image: Image) -> Path:
    """Return the virtual environment for an image's requirements. Build it if it is missing, incomplete or broken."""
    environments, cache = own_folder(_environments(directory)), own_folder(directory / "virtualenv")
    environment = environments / image.environment_digest
    check_owner(environment)
    with locked(environments / f"{image.environment_digest}.lock") as lock:
        if not _is_complete(environment):
            shutil.rmtree(environment, ignore_errors=True)
            _build(environment, image.requirements, cache, lock)
    return environment


def _environments(directory: Path) -> Path:
    """Return the directory of all environments: the shared one, or else one in the cloud's directory."""
    shared = os.environ.get(ENVIRONMENTS_VARIABLE)
    return Path(shared).expanduser().absolute() if shared else directory / "environments"


def _is_complete(environment: Path) -> bool:
    # The interpreter is a link. It breaks when the user's Python is upgraded or removed.
    return (environment / _COMPLETE).exists() and (environment / "bin" / "python").exists()


def _build(environment: Path, requirements: Sequence[str], cache: Path, lock: int) -> None:
    try:
        _create_virtual_environment(environment, cache)
        requirements_file = environment / "requirements.txt"
        requirements_file.write_text("".join(f"{line}\n" for line in requirements))
        if requirements:
            _install(environment, requirements_file, requirements, lock)
        (environment / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise


def _create_virtual_environment(environment: Path, cache: Path) -> None:
    from virtualenv import cli_run

    options = ["--no-setuptools", "--no-periodic-update", "--activators", "", "--app-data", str(cache)]
    try:
        cli_run([str(environment), "--python", sys.executable, *options], setup_logging=False)
    except (Exception, SystemExit) as error:
        raise ImageError(
            f"No virtual environment for jobs can be created in {environment} with {sys.executable}. Check the free "
            f"space and the permissions of {environment.parent}. virtualenv reports: {error}"
        ) from error


def _install(environment: Path, requirements_file: Path, requirements: Sequence[str], lock: int) -> None:
    command = [str(environment / "bin" / "python"), "-I", *_PIP, str(requirements_file)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_pip_environment(),
        # If this process dies, pip goes on. It inherits the locked file, and so keeps other sessions out.
        pass_fds=[lock],
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=INSTALL_TIMEOUT)
    except BaseException as error:
        _kill(process)
        if isinstance(error, subprocess.TimeoutExpired):
            timeout = f"pip did not finish within {INSTALL_TIMEOUT / 60:.0f} minutes."
            raise ImageError(_installation_error(requirements, timeout)) from error
        raise
    if process.returncode:
        lines = output.strip().splitlines()[-SHOWN_LINES:]
        raise ImageError(_installation_error(requirements, "\n".join(["pip reports:", *lines])))


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.communicate()


def _pip_environment() -> dict[str, str]:
    """Return the user's environment variables without those that point to another Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_PIP)}


def _installation_error(requirements: Sequence[str], cause: str) -> str:
    fix = "Name requirements that pip can install with Knot(..., requirements=[...])."
    if NO_SPACE in cause:
        fix = f"Free space on the disks of {tempfile.gettempdir()} and of the embedded cloud, then try again."
    listing = "\n".join(f"    {line}" for line in requirements)
    return f"These requirements of the program cannot be installed:\n{listing}\n{cause}\n{fix}"
