"""Find the images in a knot's repositories that no knot uses any more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cloudknot.image.repository import split_uri

if TYPE_CHECKING:
    from cloudknot.aws.batch import JobDefinition
    from cloudknot.aws.cloud import Cloud

_HELPER = re.compile(r"(system|base)-[0-9a-f]{32}")
"""The tags of images that only environments are made from: their system, and a base image from the engine."""
_ENVIRONMENT = re.compile(r"env-[0-9a-f]{32}")

ImageName = tuple[str, str]
"""A repository, and the tag or digest of an image in it."""


def images_of(definitions: Iterable[JobDefinition]) -> set[ImageName]:
    """Return the images that job definitions run, and the environments that these images are built on."""
    names = set()
    for definition in definitions:
        repository, image = split_uri(str(definition.get("containerProperties", {}).get("image", "")))
        # The environment is an image of its own, and the largest. Each revision names it beside its image, so the
        # active revisions show which environments are in use.
        environment = (definition.get("parameters") or {}).get("environment", image)
        names |= {(repository, image), (repository, environment)}
    return names


def unneeded(cloud: Cloud, own: set[ImageName], used: set[ImageName]) -> dict[str, list[str]]:
    """Return the digests of the images in ``own`` that exist and have no name in ``used``, by repository."""
    digests: dict[str, list[str]] = {}
    for repository in sorted({name for name, _ in own}):
        images = cloud.repository(repository).images()
        for digest, tags in images.items():
            names = {(repository, name) for name in (digest, *tags)}
            # Images are deleted by digest. Removing one tag would keep an image with other tags, and its costs.
            if names & own and not names & used:
                digests.setdefault(repository, []).append(digest)
        if repository in digests:
            digests[repository] += _unneeded_helpers(images, digests[repository])
    return digests


def _unneeded_helpers(images: Mapping[str, tuple[str, ...]], deleted: list[str]) -> list[str]:
    """Return the digests of the images that environments were made from, if no environment remains."""
    kept = {digest: tags for digest, tags in images.items() if digest not in deleted}
    if any(_ENVIRONMENT.fullmatch(tag) for tags in kept.values() for tag in tags):
        return []
    return [digest for digest, tags in kept.items() if tags and all(map(_HELPER.fullmatch, tags))]
