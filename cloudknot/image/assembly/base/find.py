"""Find the base image of an environment: in its registry, or else in the Docker engine of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.manifests import digest_of
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.errors import CloudError, ImageError
from cloudknot.image.assembly.base.copy import BaseImage, find_base
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.image.engine.connection import engine_answers

if TYPE_CHECKING:
    from cloudknot.aws.images.image_store import Image


@contextlib.contextmanager
def find_source(image: Image, own: Registry, name: str, target: ImageReference) -> Iterator[BaseImage]:
    """Return the base image with a name, for as long as the context lasts.

    Parameters
    ----------
    image : Image
    own : Registry
        The user's own registry.
    name : str
        The name of the base image, or of the image's system.
    target : ImageReference
        The image to assemble. A base image that only the engine has goes to the same repository.

    Raises
    ------
    ImageError
        Neither a registry nor the engine has the base image.
    """
    reference = ImageReference.parse(name)
    if reference.registry == own.address:
        base = find_base(name, own, reference.repository, reference.reference, image.platform)
        yield base or _from_engine(image, own, name, target, None)
        return
    with Registry.for_reference(reference, own.login) as registry:
        try:
            base = find_base(name, registry, reference.repository, reference.reference, image.platform)
            problem = None
        except CloudError as error:
            base, problem = None, error
        yield base or _from_engine(image, own, name, target, problem)


def _from_engine(
    image: Image, own: Registry, name: str, target: ImageReference, problem: CloudError | None
) -> BaseImage:
    """Push a base image that only the engine has to the user's repository, and return it."""
    tag = f"base-{digest_of(name.encode()).removeprefix('sha256:')[:32]}"
    if engine_answers():
        with DockerBuilder() as builder:
            builder.push_own(name, image, f"{target.registry}/{target.repository}:{tag}", own.login)
        if base := find_base(name, own, target.repository, tag, image.platform):
            return base
    cause = str(problem) if problem else "Its registry does not know that name, and no Docker engine here has it."
    raise ImageError(f"The base image {name} was not found. {cause} Correct base_image=, or pull or build it first.")
