"""Find the knots that use images, and the images in a knot's repositories that no knot uses any more."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.aws.images.ecr import split_uri
from cloudknot.aws.tags import KNOT, OWN_TAG
from cloudknot.errors import CannotDeleteResourceException

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
    return set(knots_by_image(definitions))


def knots_by_image(definitions: Iterable[JobDefinition]) -> dict[ImageName, set[str]]:
    """Return the names of the knots that use each image, or an image that is built on it."""
    users: defaultdict[ImageName, set[str]] = defaultdict(set)
    for definition in definitions:
        repository, image = split_uri(str(definition.get("containerProperties", {}).get("image", "")))
        # The environment is an image of its own, and the largest. Each revision names it beside its image, so the
        # active revisions show which environments are in use.
        environment = (definition.get("parameters") or {}).get("environment", image)
        for name in (image, environment):
            users[repository, name].add(_knot_of(definition))
    return dict(users)


def _knot_of(definition: JobDefinition) -> str:
    tag = definition.get("tags", {}).get(OWN_TAG)
    return str(tag or definition["jobDefinitionName"].removesuffix("-job-definition")).removesuffix(KNOT)


def knots_by_repository(users: Mapping[ImageName, Collection[str]]) -> dict[str, set[str]]:
    """Return the names of the knots that use images of each repository, from those that use each image."""
    repositories: defaultdict[str, set[str]] = defaultdict(set)
    for (repository, _), knots in users.items():
        repositories[repository].update(knots)
    return dict(repositories)


def refuse_in_use(cloud: Cloud, repository: str) -> None:
    """Raise `CannotDeleteResourceException` if a knot uses images of a repository."""
    users = knots_by_repository(knots_by_image(batch.job_definitions(cloud))).get(repository)
    if users:
        those = "that knot" if len(users) == 1 else "those knots"
        raise CannotDeleteResourceException(
            f"The image repository {repository!r} was not deleted, because {knots_that(users, 'use')} it. Without "
            f"their images, knots can run no jobs. To delete it, clobber {those} with it: "
            f"`{cloud.command(' '.join(['clobber --repo', *sorted(users)]))}`.",
            operation="ecr:delete_repository",
            resource_id=repository,
        )


def knots_that(names: Collection[str], verb: str) -> str:
    """Return the subject and verb of a sentence about knots: ``the knots 'a' and 'b' use``."""
    *most, last = map(repr, sorted(names))
    return f"the knots {', '.join(most)} and {last} {verb}" if most else f"the knot {last} {verb}s"


def unneeded(cloud: Cloud, own: set[ImageName], used: Collection[ImageName]) -> dict[str, list[str]]:
    """Return the digests of the images in ``own`` that exist and have no name in ``used``, by repository."""
    digests: dict[str, list[str]] = {}
    for repository in sorted({name for name, _ in own}):
        images = cloud.repository(repository).images()
        for digest, tags in images.items():
            names = {(repository, name) for name in (digest, *tags)}
            # Images are deleted by digest. Removing one tag would keep an image with other tags, and its costs.
            if names & own and names.isdisjoint(used):
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
