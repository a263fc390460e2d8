"""Find and delete the images that no knot uses any more, with the old revisions of job definitions that name them.

Only repositories that cloudknot made are read, and only images whose tags are all cloudknot's own are deleted. The
newest revision of each job definition stays, and every revision that the caller names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import KNOT, OWN_TAG
from cloudknot.deploy.account.resources import own_repositories
from cloudknot.image.unused_images import ImageName, images_of

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import ImageDetailTypeDef

    from cloudknot.aws.cloud import Cloud

_OWN_TAG_NAME = re.compile(r"(format\d+|env)-[0-9a-f]{32}")
"""The tags of images of functions and environments. An image with a tag of the user's own stays."""


@dataclass(frozen=True)
class UnusedImage:
    """An image that nothing uses."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    bytes: int
    pushed: datetime


@dataclass(frozen=True)
class Unused:
    """Images that nothing uses, and ARNs of old revisions that nothing runs."""

    images: tuple[UnusedImage, ...]
    revisions: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.images)

    def also_in(self, other: Unused) -> Unused:
        """Return the part that is unused in ``other``, too."""
        digests, revisions = {image.digest for image in other.images}, set(other.revisions)
        return Unused(
            tuple(image for image in self.images if image.digest in digests),
            tuple(arn for arn in self.revisions if arn in revisions),
        )


def find_unused(cloud: Cloud, needed: Collection[str], before: datetime) -> Unused:
    """Return the images that nothing uses, and the old revisions that would keep them. Changes nothing.

    Parameters
    ----------
    cloud : Cloud
    needed : collection of str
        ARNs of revisions that stored runs may still use.
    before : datetime
        Images that were pushed later stay: their knot may be just being made.
    """
    details = {
        (name, image["imageDigest"]): image for name in own_repositories(cloud) for image in _images(cloud, name)
    }
    old = {image for key, detail in details.items() if _may_go(detail, before) for image in _names(key[0], detail)}
    active = batch.job_definitions(cloud)
    unneeded = [revision for revision in _earlier(active) if revision["jobDefinitionArn"] not in needed]
    # A revision whose images are young may belong to a session that goes on.
    unneeded = [revision for revision in unneeded if images_of([revision]) <= old]
    arns = {revision["jobDefinitionArn"] for revision in unneeded}
    used = images_of(revision for revision in active if revision["jobDefinitionArn"] not in arns)
    images = [
        _unused(key[0], detail)
        for key, detail in details.items()
        if _may_go(detail, before) and not used & set(_names(key[0], detail))
    ]
    names = {(image.repository, name) for image in images for name in (image.digest, *image.tags)}
    # A revision that shares all of its images with others keeps nothing in the registry.
    dropped = [revision["jobDefinitionArn"] for revision in unneeded if images_of([revision]) & names]
    return Unused(tuple(sorted(images, key=lambda image: image.pushed)), tuple(dropped))


def prune(cloud: Cloud, unused: Unused, report: Callable[[str], None] = lambda _: None) -> None:
    """Deregister the revisions, then delete the images. Another call continues after an error.

    Raises
    ------
    CannotDeleteResourceException
        ECR did not delete an image. The message names it and the reason.
    """
    # First, so that no map can start with an image that is about to go.
    for arn in unused.revisions:
        clients.batch(cloud).deregister_job_definition(jobDefinition=arn)
        report(f"Deregistered {arn.rpartition('/')[2]}.")
    for repository in sorted({image.repository for image in unused.images}):
        digests = [image.digest for image in unused.images if image.repository == repository]
        cloud.repository(repository).delete_images(digests)
        report(f"Deleted {len(digests)} image{'s' * (len(digests) != 1)} in {repository}.")


def _images(cloud: Cloud, repository: str) -> list[ImageDetailTypeDef]:
    return cloud.repository(repository).details()


def _may_go(detail: ImageDetailTypeDef, before: datetime) -> bool:
    tags = detail.get("imageTags", ())
    # The lifecycle policy deletes images without a tag.
    return bool(tags) and all(map(_OWN_TAG_NAME.fullmatch, tags)) and detail["imagePushedAt"] < before


def _names(repository: str, detail: ImageDetailTypeDef) -> list[ImageName]:
    return [(repository, name) for name in (detail["imageDigest"], *detail.get("imageTags", ()))]


def _unused(repository: str, detail: ImageDetailTypeDef) -> UnusedImage:
    return UnusedImage(
        repository,
        detail["imageDigest"],
        tuple(detail.get("imageTags", ())),
        detail.get("imageSizeInBytes", 0),
        detail["imagePushedAt"],
    )


def _earlier(active: list[batch.JobDefinition]) -> Iterator[batch.JobDefinition]:
    """Yield cloudknot's revisions that are not the newest of their job definition."""
    newest: dict[str, int] = {}
    for revision in active:
        name = revision["jobDefinitionName"]
        newest[name] = max(newest.get(name, 0), int(revision["revision"]))
    for revision in active:
        is_ours = str(revision.get("tags", {}).get(OWN_TAG, "")).endswith(KNOT)
        if is_ours and int(revision["revision"]) < newest[revision["jobDefinitionName"]]:
            yield revision
