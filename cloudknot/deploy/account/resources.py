"""Find and delete all of cloudknot's resources in a region.

Stacks are identified by their description. Resources outside of stacks (revisions of job definitions, repositories and
buckets) have the tag ``cloudknot``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import KNOT, OWN_TAG
from cloudknot.deploy.account.buckets import STATES
from cloudknot.deploy.account.clobber import Extras, clobber_knot
from cloudknot.deploy.cloudformation.stack import StackState
from cloudknot.deploy.codebuild.project import delete_project
from cloudknot.deploy.inventory import BUILDS, KnotInfo, all_stacks, list_knots, pars_stacks
from cloudknot.deploy.inventory import PARS as PARS_SUFFIX
from cloudknot.deploy.job_definition import BucketName, buckets_named
from cloudknot.deploy.pars import delete_pars
from cloudknot.display.tables import size
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.image.unused_images import ImageName, images_of, refuse_in_use
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import ImageDetailTypeDef

    from cloudknot.aws.cloud import Cloud

DEFAULT_REPOSITORY = "cloudknot"


@dataclass(frozen=True)
class Stored:
    """A repository with images, or a bucket with runs."""

    name: str
    number: int
    """Number of images or objects."""
    bytes: int


@dataclass(frozen=True)
class StoredRuns(Stored):
    """A bucket with runs."""

    own: bool
    """Whether cloudknot created the bucket."""
    closed: bool = False
    """Whether these credentials may not read the bucket."""


@dataclass(frozen=True)
class StoredImages(Stored):
    """Images of knots in a repository that cloudknot did not create."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class Resources:
    """All of cloudknot's resources in a region."""

    knots: tuple[KnotInfo, ...]
    jobs: Mapping[str, int]
    """Number of live jobs for each knot."""
    pars: Mapping[str, str]
    """The id of the stack of each Pars, by its name."""
    builds: str
    """The id of the stack with the project for builds; empty without one."""
    half_removed: tuple[str, ...]
    """Names of deleted knots with remaining revisions of a job definition."""
    repositories: tuple[Stored, ...]
    """Repositories that cloudknot created."""
    images: tuple[StoredImages, ...]
    """Images of knots in the user's own repositories."""
    buckets: tuple[StoredRuns, ...]
    """Buckets that cloudknot created, and the user's own buckets with runs."""

    def __bool__(self) -> bool:
        stored = self.repositories or self.images or self.buckets
        return bool(self.knots or self.pars or self.builds or self.half_removed or stored)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a row for each resource: its kind, its name, and its cost while no job runs."""
        return [
            *(("knot", knot.name, self._cost(knot)) for knot in self.knots),
            *(("knot, half removed", name, "nothing") for name in self.half_removed),
            *(("shared resources (Pars)", name, "nothing") for name in self.pars),
            *([("project for image builds (CodeBuild)", BUILDS, "none while idle")] if self.builds else []),
            *(("image repository", stored.name, _storage(stored, "image")) for stored in self.repositories),
            *(("images in your own repository", stored.name, _storage(stored, "image")) for stored in self.images),
            *(_row(bucket) for bucket in self.buckets),
        ]

    def _cost(self, knot: KnotInfo) -> str:
        live = self.jobs.get(knot.name, 0)
        jobs = [f"{live} job{'s' * (live > 1)} waiting or running"] if live else []
        return "; ".join([*jobs, idle_cost(knot)])


def idle_cost(knot: KnotInfo) -> str:
    """Return the cost of a knot without jobs, in words."""
    if knot.compute:
        return f"nothing of its own: on the machines of {knot.compute}"
    return f"{knot.min_vcpus} vCPUs kept running (min_vcpus)" if knot.min_vcpus else "none while idle"


def find_resources(cloud: Cloud) -> Resources:
    """Return all of cloudknot's resources in the cloud's region. Changes nothing."""
    knots, stacks = list_knots(cloud), all_stacks(cloud)
    names = {knot.name for knot in knots}
    active, inactive = (batch.job_definitions(cloud, status) for status in STATES)
    tags = {revision.get("tags", {}).get(OWN_TAG, "") for revision in active}
    # A removal that was interrupted after the deletion of the stack leaves active revisions without a knot.
    half_removed = {tag.removesuffix(KNOT) for tag in tags if tag.endswith(KNOT)} - names
    repositories = tuple(_repositories(cloud))
    ours = [revision for revision in (*active, *inactive) if _is_ours(revision)]
    # Stacks and revisions name the buckets of all sessions, whatever their settings. A search for the tag in all
    # buckets of the account would take a call for each bucket and one more permission.
    buckets = dict.fromkeys([BucketName(cloud.bucket), *_buckets_of(stacks), *buckets_named(ours)])
    clouds = dict.fromkeys(cloud.in_bucket(*bucket) for bucket in buckets)
    return Resources(
        knots=tuple(knots),
        jobs=_live_jobs(cloud, knots),
        pars={stack.name.removesuffix(PARS_SUFFIX): stack.stack_id for stack in pars_stacks(stacks)},
        builds=next((stack.stack_id for stack in stacks if stack.name == BUILDS), ""),
        half_removed=tuple(sorted(half_removed)),
        repositories=repositories,
        images=tuple(_images_elsewhere(cloud, images_of(ours), {stored.name for stored in repositories})),
        buckets=tuple(filter(None, (_bucket(place, place.bucket == cloud.bucket) for place in clouds))),
    )


def _live_jobs(cloud: Cloud, knots: Sequence[KnotInfo]) -> dict[str, int]:
    """Return the number of waiting and running jobs of each knot."""
    # Knots can share a queue, so each queue is read once.
    owners = {knot.job_definition: knot.name for knot in knots}
    main = {knot.job_queue: knot.name for knot in knots if not knot.compute}
    counts: Counter[str] = Counter()
    for queue in dict.fromkeys(knot.job_queue for knot in knots):
        for job in batch.live_jobs(cloud, queue):
            counts[owners.get(batch.definition_of(job)) or main.get(queue, "")] += 1
    return counts


def remove(
    cloud: Cloud, resources: Resources, results: bool, report: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Delete resources, and return a message for each that could not be deleted.

    Another call continues after an interruption or a failure.

    Parameters
    ----------
    cloud : Cloud
    resources : Resources
    results : bool
        Whether to delete inputs and results, too.
    report : callable
        Receives a line for each deleted resource.
    """
    failures: list[str] = []

    def step(resource: str, delete: Callable[[], object]) -> bool:
        # After a failure the other resources are still deleted, because they may cost money.
        try:
            delete()
        except CloudknotError as error:
            failures.append(f"{resource}: {error}")
        else:
            report(f"Deleted {resource}.")
            return True
        return False

    # A Pars can be deleted only after the knots that use it.
    # The ids, because the person has seen these resources, and not newer ones of the same names.
    # Knots on the machines of others go before these.
    knots = sorted(resources.knots, key=lambda knot: not knot.compute)
    stack_ids = {**{knot.name: knot.stack_id for knot in knots}, **dict.fromkeys(resources.half_removed, "")}
    kept = {
        name
        for name, stack_id in stack_ids.items()
        if not step(f"knot {name}", partial(clobber_knot, cloud, name, Extras(results=results), stack_id))
    }
    for name, stack_id in resources.pars.items():
        step(f"shared resources {name}", partial(delete_pars, cloud, name, stack_id))
    if resources.builds:
        step(f"project for image builds {BUILDS}", partial(delete_project, cloud, resources.builds))
    for repository in resources.repositories:
        step(f"image repository {repository.name}", partial(_delete_repository, cloud, repository.name, kept))
    for images in resources.images:
        delete_images = partial(_delete_images, cloud, images, kept)
        step(f"the images of knots in {images.name}", delete_images)
    # The user has paid for the results, so they are deleted on request only.
    for bucket in resources.buckets if results else ():
        resource = f"bucket {bucket.name}" if bucket.own and not kept else f"the runs in {bucket.name}"
        step(resource, partial(remove_runs, cloud.in_bucket(bucket.name), bucket.own, kept))
    return failures


def remove_runs(cloud: Cloud, own: bool, kept: Collection[str] = ()) -> None:
    """Delete all runs in the cloud's bucket, and the bucket itself if it is cloudknot's own.

    If knots are ``kept``, their runs and the bucket are kept, too.
    """
    if kept:
        for knot in cloud.storage.folders(f"{RUNS}/"):
            if knot not in kept:
                cloud.storage.delete_prefix(f"{RUNS}/{knot}/")
        return
    cloud.storage.delete_prefix(f"{RUNS}/")
    if own:
        cloud.storage.bucket_itself.delete()


def _delete_repository(cloud: Cloud, name: str, kept: Collection[str]) -> None:
    # A knot whose removal was refused still needs its image.
    if kept:
        refuse_in_use(cloud, name)
    cloud.repository(name).clobber()


def _delete_images(cloud: Cloud, images: StoredImages, kept: Collection[str]) -> None:
    if kept:
        refuse_in_use(cloud, images.name)
    cloud.repository(images.name).delete_images(images.digests)


def own_repositories(cloud: Cloud) -> list[str]:
    """Return the names of the repositories that cloudknot created."""
    pages = clients.ecr(cloud).get_paginator("describe_repositories").paginate()
    found = {item["repositoryName"]: item["repositoryArn"] for page in pages for item in page["repositories"]}
    return [name for name, arn in found.items() if name == DEFAULT_REPOSITORY or OWN_TAG in _tags(cloud, arn)]


def _repositories(cloud: Cloud) -> Iterable[Stored]:
    """Yield the repositories that cloudknot created, with their images."""
    for name in own_repositories(cloud):
        images = cloud.repository(name).details()
        yield Stored(name, len(images), _bytes_of(images))


def _is_ours(definition: batch.JobDefinition) -> bool:
    return OWN_TAG in definition.get("tags", {}) or definition["jobDefinitionName"].endswith(f"{KNOT}-job-definition")


def _buckets_of(stacks: Iterable[StackState]) -> list[BucketName]:
    """Return the buckets of all knots, and the buckets that each Pars of an earlier version opens for its jobs."""
    stacks = list(stacks)
    own = [(stack.parameters.get("Bucket", ""), stack.parameters.get("BucketOwner", "")) for stack in stacks]
    arns = [arn for stack in pars_stacks(stacks) for arn in stack.parameters.get("BucketArns", "").split(",")]
    return [BucketName(*bucket) for bucket in (*own, *((arn.rpartition(":")[2], "") for arn in arns)) if bucket[0]]


def _images_elsewhere(cloud: Cloud, used: set[ImageName], ours: set[str]) -> Iterable[StoredImages]:
    """Yield the used images in repositories other than ``ours``."""
    for repository in sorted({name for name, _ in used if name} - ours):
        # The user's own repository may hold any other images, so only those in revisions are cloudknot's.
        names = {image for name, image in used if name == repository}
        with suppress(ResourceDoesNotExistException):
            details = cloud.repository(repository).details()
            images = [image for image in details if names & {image["imageDigest"], *image.get("imageTags", ())}]
            if images:
                digests = tuple(image["imageDigest"] for image in images)
                yield StoredImages(repository, len(images), _bytes_of(images), digests)


def _tags(cloud: Cloud, arn: str) -> set[str]:
    return {tag["Key"] for tag in clients.ecr(cloud).list_tags_for_resource(resourceArn=arn)["tags"]}


def _bytes_of(images: Iterable[ImageDetailTypeDef]) -> int:
    return sum(image.get("imageSizeInBytes", 0) for image in images)


def _bucket(cloud: Cloud, is_default: bool) -> StoredRuns | None:
    """Return a bucket with its runs; None if it holds nothing to delete."""
    own = cloud.storage.bucket_itself.is_made_by_cloudknot()
    try:
        s3 = clients.s3(cloud)
        s3.head_bucket(Bucket=cloud.bucket)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket, Prefix=f"{RUNS}/")
        sizes = [item["Size"] for page in pages for item in page.get("Contents", ())]
    except ResourceDoesNotExistException:
        return None
    except PermissionDeniedError:
        # Another session's bucket may hold runs, so the user learns about it. The default bucket may simply not exist:
        # without the permission to list it, S3 denies that request in the same way.
        return None if is_default else StoredRuns(cloud.bucket, 0, 0, own, closed=True)
    return StoredRuns(cloud.bucket, len(sizes), sum(sizes), own) if own or sizes else None


def _row(bucket: StoredRuns) -> tuple[str, str, str]:
    if bucket.closed:
        return "bucket of other settings", bucket.name, "unknown: your credentials may not read it"
    return "bucket" if bucket.own else "runs in your own bucket", bucket.name, _storage(bucket, "object")


def _storage(stored: Stored, noun: str) -> str:
    return f"storage of {stored.number} {noun}{'s' * (stored.number != 1)}, {size(stored.bytes)}"
