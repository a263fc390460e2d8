"""Publish an image where jobs can get it, once for each digest.

An image store of the cloud takes the image as it is. Otherwise the image goes to a registry, in one of three ways:

* Nothing must run: the image is assembled in the registry.
* Debian packages or lines of a Dockerfile must run: a builder makes the image's system, and the rest is assembled.
* The Dockerfile was edited, or source archives must be compiled: the builder makes all of the image.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import lacks
from cloudknot.image import context
from cloudknot.image.engine.builder import DockerBuilder

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image
    from cloudknot.image.image_builder import ImageBuilder


def publish(
    cloud: Cloud,
    image: Image,
    repository: Repository,
    builder: ImageBuilder | None = None,
    stop: threading.Event | None = None,
) -> str:
    """Put an image where jobs can get it, unless it is there already. Return its URI.

    The repository is created if it does not exist. ``builder`` builds an image for which something must run. Once
    ``stop`` is set, an image that is being assembled sends nothing more.

    Raises
    ------
    ImageError
        The image could not be assembled, built, pushed or installed.
    CloudError
        AWS or a registry refused a request.
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
            _store_in_registry(image, repository, uri, builder or DockerBuilder(), stop)
        else:
            store.put(image, repository, uri)
    for tag in image.extra_tags:
        repository.add_tag(image.tag, tag)
    return uri


def publish_environment(
    cloud: Cloud, image: Image, repository: Repository, builder: ImageBuilder | None = None
) -> str:
    """Put the environment of an image where later images find it, unless it is there already. Return its URI.

    Parameters and errors are those of `publish`.
    """
    existing_uri = repository.find()
    address = existing_uri or repository.make()
    uri, environment = f"{address}:{image.tag}", f"{address}:{image.environment_tag}"
    store = cloud.image_store
    # An environment of an image store, or of a Dockerfile that compiles, exists only with an image.
    if store is not None or context.is_built_whole(image):
        publish(cloud, image, repository, builder)
    elif image.nocache or not repository.has_tag(image.environment_tag):
        from cloudknot.image.assembly.assemble import assemble_environment

        if existing_uri:
            repository.finish()
        builder = builder or DockerBuilder()
        try:
            system = _make_system(image, repository, uri, builder) if image.must_run else ""
            assemble_environment(image, repository, environment, system=system)
        finally:
            builder.stop()
    return environment


def _store_in_registry(
    image: Image, repository: Repository, uri: str, builder: ImageBuilder, stop: threading.Event | None
) -> None:
    # Only here: a session that finds its image needs none of it.
    from cloudknot.image.assembly.assemble import assemble

    try:
        if not image.must_run:
            assemble(image, repository, uri, stop=stop)
        elif context.is_built_whole(image):
            builder.publish(image, repository, uri)
        else:
            system = _make_system(image, repository, uri, builder)
            assemble(image, repository, uri, system=system, stop=stop)
    finally:
        builder.stop()


def _make_system(image: Image, repository: Repository, uri: str, builder: ImageBuilder) -> str:
    """Build an image's system unless its environment, which contains it, exists. Return the system's URI."""
    tag = context.system_tag(image.files, image.platform, image.executables)
    system = f"{uri.removesuffix(image.tag)}{tag}"
    if image.nocache or not repository.has_tag(image.environment_tag):
        builder.publish_system(image, repository, system)
    return system
