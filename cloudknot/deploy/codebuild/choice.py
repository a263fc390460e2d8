"""Choose the builder of an image, before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.images.image_store import Image
from cloudknot.deploy.codebuild.code_builder import CodeBuilder
from cloudknot.deploy.inventory import BUILDS
from cloudknot.errors import ImageError, PermissionDeniedError
from cloudknot.image import context
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.image.engine.connection import connect, engine_answers
from cloudknot.image.image_builder import ImageBuilder
from cloudknot.options import config

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository

NO_BUILDER = (
    "The image cannot be built here, because something has to run for it ({needs}). There are two ways. The first is "
    "a Docker engine on this machine. {engine} The second is AWS CodeBuild in your account, for less than a cent for "
    "each minute. {denial}"
)
NO_BUILD = f"{BUILDS}:00000000-0000-0000-0000-000000000000"
"""An id that no build has."""


def choose_builder(cloud: Cloud, image: Image, repository: str, boundary: str = "") -> ImageBuilder | None:
    """Return the builder for an image; None for an image that is assembled from its parts, or is there already.

    A Docker engine comes first, because it is free. The setting ``CLOUDKNOT_BUILDER`` chooses one of both.

    Parameters
    ----------
    cloud : Cloud
    image : Image
    repository : str
        Name of the image's repository.
    boundary : str
        ARN of the permissions boundary for roles.

    Raises
    ------
    ImageError
        No engine answers, and the credentials do not allow builds on CodeBuild. Nothing was created.
    """
    if cloud.image_store is not None or not image.must_run:
        return None
    # First, because a far engine that is away takes seconds to miss.
    if not image.nocache and _is_built(image, cloud.repository(repository)):
        return None
    setting = config.builder()
    if setting != "codebuild" and engine_answers():
        return DockerBuilder()
    if setting == "engine":
        # Unless the engine was only slow, this raises an error with the reason and the fix.
        connect().close()
        return DockerBuilder()
    _check_right(cloud, image.must_run)
    if setting == "codebuild":
        return CodeBuilder(cloud, boundary)
    return CodeBuilder(cloud, boundary, reason="no Docker engine answers on this machine")


def _is_built(image: Image, repository: Repository) -> bool:
    """Return whether the repository has everything for which something must run."""
    if repository.has_tag(image.tag):
        return True
    # The packages and the program are added to the system without running anything.
    if context.is_built_whole(image):
        return False
    system = context.system_tag(image.files, image.platform, image.executables)
    return repository.has_tag(image.environment_tag) or repository.has_tag(system)


def _check_right(cloud: Cloud, needs: str) -> None:
    """Raise `ImageError` if the caller may not build on CodeBuild."""
    # Reads nothing and changes nothing, but needs the statement of the policy that also allows builds.
    try:
        clients.codebuild(cloud).batch_get_builds(ids=[NO_BUILD])
    except PermissionDeniedError as error:
        try:
            connect().close()
        except ImageError as missing:
            raise ImageError(NO_BUILDER.format(needs=needs, engine=f"{missing}.", denial=error)) from error
        raise
