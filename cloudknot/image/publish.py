"""Publish an image where jobs can pull it, once for each digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import lacks
from cloudknot.image.engine.builder import DockerBuilder

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image
    from cloudknot.image.image_builder import ImageBuilder


def publish(cloud: Cloud, image: Image, repository: Repository, builder: ImageBuilder | None = None) -> str:
    """Build an image and put it where jobs can pull it, unless it is there already. Return its URI.

    The repository is created if it does not exist. ``builder`` builds an image for which something must run.

    Raises
    ------
    ImageError
        The image could not be built, pushed or installed.
    CloudError
        AWS refused to create or read the repository.
    """
    existing_uri = repository.find()
    uri = f"{existing_uri or repository.make()}:{image.tag}"
    # A tag is the digest of the image's content, so one look-up shows whether it was built before, on any machine.
    if image.nocache or not repository.has_tag(image.tag) or lacks(cloud.image_store, image):
        # Only here, so that a published image costs no call: a half-made repository cannot have an image yet.
        if existing_uri:
            repository.finish()
        store = cloud.image_store
        if store is None:
            _push(image, repository, uri, builder or DockerBuilder())
        else:
            store.put(image, repository, uri)
    for tag in image.extra_tags:
        repository.add_tag(image.tag, tag)
    return uri


def _push(image: Image, repository: Repository, uri: str, builder: ImageBuilder) -> None:
    try:
        builder.publish(image, repository, uri)
    finally:
        builder.stop()
