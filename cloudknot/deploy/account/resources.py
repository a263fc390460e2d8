"""Everything of cloudknot's in a region: found by tag and by name, and removed.

Stacks are known by their description, what is not in one (revisions of job definitions, repositories) by the tag
``cloudknot``, and so is a bucket that cloudknot made. Which buckets and repositories sessions of other settings have
used stands in the stacks of knots and Pars and in the revisions of job definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import OWN_TAG
from cloudknot.deploy.account.buckets import STATES
from cloudknot.deploy.account.clobber import Extras, clobber_knot, live_jobs
from cloudknot.deploy.cloudformation.stack import StackState
from cloudknot.deploy.inventory import KNOT, KnotInfo, all_stacks, job_definitions, list_knots, pars_stacks
from cloudknot.deploy.inventory import PARS as PARS_SUFFIX
from cloudknot.deploy.job_definition import buckets_named
from cloudknot.deploy.pars import delete_pars
from cloudknot.display.tables import size
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.image.unused_images import ImageName, images_of
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from types_boto3_ecr.type_defs import ImageDetailTypeDef

    from cloudknot.aws.cloud import Cloud

DEFAULT_REPOSITORY = "cloudknot"


@dataclass(frozen=True)
class Stored:
    """A repository with its images, or a bucket with its runs: what has a name, a number and a size in bytes."""

    name: str
    number: int
    bytes: int


@dataclass(frozen=True)
class StoredRuns(Stored):
    """A bucket: whether cloudknot made it, and whether these credentials may look into it."""

    own: bool
    closed: bool = False


@dataclass(frozen=True)
class StoredImages(Stored):
    """Images of knots in a repository that is not cloudknot's, by their digests."""

    digests: tuple[str, ...]


@dataclass(frozen=True)
class Resources:
    """What there is.

    ``jobs`` are the numbers of live jobs by knot, ``leftovers`` the names of knots of which only revisions of a job
    definition are left. ``repositories`` are cloudknot's own, ``images`` those of knots in repositories of the user's.
    ``buckets`` are those that cloudknot made, and those of the user's with runs in them.
    """

    knots: tuple[KnotInfo, ...]
    jobs: Mapping[str, int]
    pars: tuple[str, ...]
    leftovers: tuple[str, ...]
    repositories: tuple[Stored, ...]
    images: tuple[StoredImages, ...]
    buckets: tuple[StoredRuns, ...]

    def __bool__(self) -> bool:
        stored = self.repositories or self.images or self.buckets
        return bool(self.knots or self.pars or self.leftovers or stored)

    def rows(self) -> list[tuple[str, str, str]]:
        """What it is, its name, and what it costs while nothing runs."""
        stored = [("image repository", one.name, _storage(one, "image")) for one in self.repositories]
        images = [("images in your own repository", one.name, _storage(one, "image")) for one in self.images]
        return [
            *(("knot", knot.name, self._cost(knot)) for knot in self.knots),
            *(("knot, half removed", name, "nothing") for name in self.leftovers),
            *(("shared resources (Pars)", name, "nothing") for name in self.pars),
            *stored,
            *images,
            *(_row(one) for one in self.buckets),
        ]

    def _cost(self, knot: KnotInfo) -> str:
        running = self.jobs.get(knot.name, 0)
        parts = [f"{running} job{'s' * (running > 1)} not ended"] if running else []
        return "; ".join([*parts, idle_cost(knot)])


def idle_cost(knot: KnotInfo) -> str:
    """What a knot costs while it has no jobs."""
    return f"{knot.min_vcpus} vCPUs kept running (min_vcpus)" if knot.min_vcpus else "nothing while idle"


def find_resources(cloud: Cloud) -> Resources:
    """Everything of cloudknot's in the cloud's region. Only reads."""
    knots, stacks = list_knots(cloud), all_stacks(cloud)
    names = {knot.name for knot in knots}
    active, inactive = (job_definitions(cloud, status) for status in STATES)
    tags = {one.get("tags", {}).get(OWN_TAG, "") for one in active}
    left = {tag.removesuffix(KNOT) for tag in tags if tag.endswith(KNOT)} - names
    repositories = tuple(_repositories(cloud))
    ours = [one for one in (*active, *inactive) if _is_ours(one)]
    buckets = dict.fromkeys([cloud.bucket, *_buckets_of(stacks), *buckets_named(ours)])
    return Resources(
        knots=tuple(knots),
        jobs={knot.name: len(live_jobs(cloud, knot.job_queue)) for knot in knots},
        pars=tuple(stack.name.removesuffix(PARS_SUFFIX) for stack in pars_stacks(stacks)),
        leftovers=tuple(sorted(left)),
        repositories=repositories,
        images=tuple(_images_elsewhere(cloud, images_of(ours), {one.name for one in repositories})),
        buckets=tuple(filter(None, (_bucket(cloud.in_bucket(name), name == cloud.bucket) for name in buckets))),
    )


def remove(cloud: Cloud, found: Resources, results: bool, tell: Callable[[str], None] = lambda _: None) -> list[str]:
    """Remove what was found, the results if asked; gives what could not be removed, and why.

    One that fails does not keep the others; calling again goes on.
    """
    failures: list[str] = []

    def step(what: str, remove_it: Callable[[], object]) -> None:
        try:
            remove_it()
        except CloudknotError as error:
            failures.append(f"{what}: {error}")
        else:
            tell(f"Removed {what}.")

    for name in (*(knot.name for knot in found.knots), *found.leftovers):
        step(f"knot {name}", partial(clobber_knot, cloud, name, Extras(results=results)))
    for name in found.pars:
        step(f"shared resources {name}", partial(delete_pars, cloud, name))
    for one in found.repositories:
        step(f"image repository {one.name}", cloud.repository(one.name).clobber)
    for some in found.images:
        step(f"the images of knots in {some.name}", partial(cloud.repository(some.name).delete_images, some.digests))
    for bucket in found.buckets if results else ():
        what = f"bucket {bucket.name}" if bucket.own else f"the runs in {bucket.name}"
        step(what, partial(remove_runs, cloud.in_bucket(bucket.name), bucket.own))
    return failures


def remove_runs(cloud: Cloud, own: bool) -> None:
    """Delete every run, and the bucket if cloudknot made it."""
    cloud.storage.delete_prefix(f"{RUNS}/")
    if own:
        cloud.storage.bucket_itself.delete()


def _repositories(cloud: Cloud) -> list[Stored]:
    found = []
    for page in clients.ecr(cloud).get_paginator("describe_repositories").paginate():
        for repository in page["repositories"]:
            name = repository["repositoryName"]
            if name == DEFAULT_REPOSITORY or OWN_TAG in _tags(cloud, repository["repositoryArn"]):
                images = cloud.repository(name).details()
                found.append(Stored(name, len(images), _bytes_of(images)))
    return found


def _is_ours(definition: batch.JobDefinition) -> bool:
    return OWN_TAG in definition.get("tags", {}) or definition["jobDefinitionName"].endswith(f"{KNOT}-job-definition")


def _buckets_of(stacks: Iterable[StackState]) -> list[str]:
    """The buckets that the knots use, and those that the jobs of each Pars may use."""
    knots = [stack.parameters["Bucket"] for stack in stacks if stack.parameters.get("Bucket")]
    arns = [arn for stack in pars_stacks(list(stacks)) for arn in stack.parameters.get("BucketArns", "").split(",")]
    return [*knots, *(arn.rpartition(":")[2] for arn in arns if arn)]


def _images_elsewhere(cloud: Cloud, named: set[ImageName], ours: set[str]) -> Iterable[StoredImages]:
    """The images of knots, by repository and name, that are in other repositories than ``ours``."""
    for repository in sorted({name for name, _ in named if name} - ours):
        names = {name for one, name in named if one == repository}
        with suppress(ResourceDoesNotExistException):
            images = cloud.repository(repository).details()
            found = [one for one in images if names & {one["imageDigest"], *one.get("imageTags", ())}]
            if found:
                digests = tuple(one["imageDigest"] for one in found)
                yield StoredImages(repository, len(found), _bytes_of(found), digests)


def _tags(cloud: Cloud, arn: str) -> set[str]:
    return {tag["Key"] for tag in clients.ecr(cloud).list_tags_for_resource(resourceArn=arn)["tags"]}


def _bytes_of(images: Iterable[ImageDetailTypeDef]) -> int:
    return sum(image.get("imageSizeInBytes", 0) for image in images)


def _bucket(cloud: Cloud, is_default: bool) -> StoredRuns | None:
    """The bucket, if there is anything in it that could be removed.

    One that may not be looked into is told: it is another session's, and there may be runs in it. But for that of the
    settings, which is refused in the same way when there is no such bucket.
    """
    own = cloud.storage.bucket_itself.is_made_by_cloudknot()
    try:
        s3 = clients.s3(cloud)
        s3.head_bucket(Bucket=cloud.bucket)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket, Prefix=f"{RUNS}/")
        sizes = [item["Size"] for page in pages for item in page.get("Contents", ())]
    except ResourceDoesNotExistException:
        return None
    except PermissionDeniedError:
        return None if is_default else StoredRuns(cloud.bucket, 0, 0, own, closed=True)
    return StoredRuns(cloud.bucket, len(sizes), sum(sizes), own) if own or sizes else None


def _row(bucket: StoredRuns) -> tuple[str, str, str]:
    if bucket.closed:
        return "bucket of other settings", bucket.name, "not known: your credentials may not look into it"
    return "bucket" if bucket.own else "runs in your own bucket", bucket.name, _storage(bucket, "object")


def _storage(stored: Stored, noun: str) -> str:
    return f"storage of {stored.number} {noun}{'s' * (stored.number != 1)}, {size(stored.bytes)}"
