"""The images of knots in their repositories: find those that no knot uses any more.

A knot's image and the environment that it stands on are images of their own, each with any number of tags. An image is
deleted by its digest, with all of its tags: a tag taken away leaves the image to be paid for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cloudknot.image.repository import split_uri

if TYPE_CHECKING:
    from cloudknot.aws.batch import JobDefinition
    from cloudknot.aws.cloud import Cloud

Named = tuple[str, str]
"""A repository, and the tag or the digest of an image in it."""


def images_of(definitions: Iterable[JobDefinition]) -> set[Named]:
    """Return the images that job definitions run, and the environments that those stand on."""
    found = set()
    for definition in definitions:
        repository, image = split_uri(str(definition.get("containerProperties", {}).get("image", "")))
        found |= {(repository, image), (repository, (definition.get("parameters") or {}).get("environment", image))}
    return found


def unneeded(cloud: Cloud, own: set[Named], used: set[Named]) -> dict[str, list[str]]:
    """The digests of the images of ``own`` that are there and of which nothing is ``used``, by repository."""
    found: dict[str, list[str]] = {}
    for repository in sorted({name for name, _ in own}):
        for digest, tags in cloud.repository(repository).images().items():
            names = {(repository, name) for name in (digest, *tags)}
            if names & own and not names & used:
                found.setdefault(repository, []).append(digest)
    return found
