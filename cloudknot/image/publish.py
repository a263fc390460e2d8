"""Publish an image: put it where jobs can pull it, once for each digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.image.builder import DockerBuilder

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image


def publish(cloud: Cloud, image: Image, repository: Repository) -> str:
    """Put an image where jobs can pull it, unless it is there already, and return its URI.

    Raises
    ------
    ImageError
        The image could not be built, pushed or installed.
    CannotCreateResourceException
        The repository could not be made.
    """
    found = repository.find()
    uri = f"{found or repository.make()}:{image.tag}"
    if image.nocache or not repository.has_tag(image.tag):
        # Only here, so that a published image costs no call: an interrupted repository has no image yet.
        if found:
            repository.finish()
        store = cloud.image_store
        if store is None:
            _push(image, repository, uri)
        else:
            store.put(image, repository, uri)
    for other in image.extra_tags:
        repository.add_tag(image.tag, other)
    return uri


def _push(image: Image, repository: Repository, uri: str) -> None:
    with DockerBuilder() as builder:
        builder.publish(image, repository, uri)
