"""Write an image as a directory for the process runner."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError, ResourceExistsException
from cloudknot.local import admin
from cloudknot.local.batch.records import Status
from cloudknot.local.directory.claim import claim, own_folder
from cloudknot.local.directory.disk_use import delete
from cloudknot.local.directory.files import IMAGES
from cloudknot.local.directory.refused_writes import usable
from cloudknot.local.runners.images.contents import is_intact
from cloudknot.local.runners.images.environments import environment_of, environments_folder
from cloudknot.local.runners.images.prune import keep_within_limit, limit
from cloudknot.program.packages.target import InstallTarget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloudknot.aws.clients import Caller

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class DirectoryStore:
    """The image store of an embedded cloud with the process runner: directories on this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def target(self) -> InstallTarget:
        """This machine: its processes are the jobs, whatever instance types a knot has."""
        return InstallTarget.this_machine()

    def has(self, image: Image) -> bool:
        """Return whether an image is complete on this machine: it may have been removed or damaged."""
        environment = environments_folder(self._directory) / image.environment_digest
        return _is_written(self._directory / IMAGES / image.tag, environment) and is_intact(environment)

    def put(self, image: Image, repository: Repository, uri: str) -> None:
        """Write an image as a directory, and register its tags with ECR. Remove old images above the limit."""
        limit()
        materialise(self._directory, image)
        keep_within_limit(self._directory, lambda: used_images(repository.cloud, self._directory))
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
    target = directory / IMAGES / image.tag
    with usable(directory):
        claim(directory)
        environment = environment_of(directory, image)
        if not _is_written(target, environment):
            _write(target, image.files, environment)
        os.utime(target)
    return target


def used_images(cloud: Caller, directory: Path) -> set[str]:
    """Return the tags of all images that a knot or a job of a running cloud uses."""
    status = admin.status(directory)
    has_jobs = status is not None and any(number for name, number in status.jobs.items() if not Status(name).ended)
    # A job may outlive its knot, whose definitions are then inactive.
    choice = {} if has_jobs else {"status": "ACTIVE"}
    pages: Iterable[Any] = cloud.pages("batch", "describe_job_definitions", **choice)
    definitions = chain.from_iterable(page["jobDefinitions"] for page in pages)
    images = (definition.get("containerProperties", {}).get("image", "") for definition in definitions)
    return {image.rpartition(":")[2] for image in images}


def _is_written(target: Path, environment: Path) -> bool:
    """Return whether an image's directory exists and leads to that environment."""
    # Another session may have had another folder of environments.
    return (target / "environment").resolve() == environment.resolve()


def register(repository: Repository, tag: str) -> None:
    """Register an image with this single tag in ECR. ECR holds only a manifest, and no content."""
    # This layer depends on the tag, so that images have different digests.
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
        if target.is_dir() and not _is_written(target, environment):
            delete(target)
        # An image appears by this rename, so no other session ever sees half of one.
        temporary.rename(target)
    except OSError:
        # Another session may have written the same image first. Otherwise the disk failed.
        if not _is_written(target, environment):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
