"""Everything of cloudknot's in a region: found by tag and by name, and removed.

Stacks are known by their description, what is not in one (revisions of job definitions, repositories) by the tag
``cloudknot``, and so is a bucket that cloudknot made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudknot.clobber import Also, clobber_knot, live_jobs
from cloudknot.errors import CloudknotError, PermissionDeniedError, ResourceDoesNotExistException
from cloudknot.inventory import KNOT, KnotInfo, all_stacks, job_definitions, list_knots, pars_stacks
from cloudknot.inventory import PARS as PARS_SUFFIX
from cloudknot.pars import delete_pars
from cloudknot.tables import size
from cloudknot.template import OWN_TAG
from cloudknot.worker.protocol import RUNS

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

DEFAULT_REPOSITORY = "cloudknot"


@dataclass(frozen=True)
class Stored:
    """A repository with its images, or a bucket with its runs: what has a name, a number and a size in bytes."""

    name: str
    number: int
    bytes: int


@dataclass(frozen=True)
class Belongings:
    """What there is.

    ``jobs`` are the numbers of live jobs by knot, ``leftovers`` the names of knots of which only revisions of a job
    definition are left. ``bucket`` is None when there are no runs in it and cloudknot did not make it.
    """

    knots: tuple[KnotInfo, ...]
    jobs: Mapping[str, int]
    pars: tuple[str, ...]
    leftovers: tuple[str, ...]
    repositories: tuple[Stored, ...]
    bucket: Stored | None
    own_bucket: bool

    def __bool__(self) -> bool:
        return bool(self.knots or self.pars or self.leftovers or self.repositories or self.bucket)

    def rows(self) -> list[tuple[str, str, str]]:
        """What it is, its name, and what it costs while nothing runs."""
        stored = [("image repository", one.name, _storage(one, "image")) for one in self.repositories]
        kind = "bucket" if self.own_bucket else "runs in your own bucket"
        bucket = [(kind, one.name, _storage(one, "object")) for one in (self.bucket,) if one]
        return [
            *(("knot", knot.name, self._cost(knot)) for knot in self.knots),
            *(("knot, half removed", name, "nothing") for name in self.leftovers),
            *(("shared resources (Pars)", name, "nothing") for name in self.pars),
            *stored,
            *bucket,
        ]

    def _cost(self, knot: KnotInfo) -> str:
        running = self.jobs.get(knot.name, 0)
        parts = [f"{running} job{'s' * (running > 1)} not ended"] if running else []
        return "; ".join([*parts, idle_cost(knot)])


def idle_cost(knot: KnotInfo) -> str:
    """What a knot costs while it has no jobs."""
    return f"{knot.min_vcpus} vCPUs kept running (min_vcpus)" if knot.min_vcpus else "nothing while idle"


def find_belongings(cloud: Cloud) -> Belongings:
    """Everything of cloudknot's in the cloud's region. Only reads."""
    knots, stacks = list_knots(cloud), all_stacks(cloud)
    names = {knot.name for knot in knots}
    tags = {one.get("tags", {}).get(OWN_TAG, "") for one in job_definitions(cloud)}
    left = {tag.removesuffix(KNOT) for tag in tags if tag.endswith(KNOT)} - names
    own = cloud.storage.bucket_itself.is_made_by_cloudknot()
    return Belongings(
        knots=tuple(knots),
        jobs={knot.name: len(live_jobs(cloud, knot.job_queue)) for knot in knots},
        pars=tuple(stack.name.removesuffix(PARS_SUFFIX) for stack in pars_stacks(stacks)),
        leftovers=tuple(sorted(left)),
        repositories=tuple(_repositories(cloud)),
        bucket=_bucket(cloud, own),
        own_bucket=own,
    )


def remove(cloud: Cloud, found: Belongings, results: bool, tell: Callable[[str], None] = lambda _: None) -> list[str]:
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
        step(f"knot {name}", lambda name=name: clobber_knot(cloud, name, Also(results=results)))  # type: ignore[misc]
    for name in found.pars:
        step(f"shared resources {name}", lambda name=name: delete_pars(cloud, name))  # type: ignore[misc]
    for one in found.repositories:
        step(f"image repository {one.name}", cloud.repository(one.name).clobber)
    if results and found.bucket:
        bucket = found.bucket.name
        step(
            f"bucket {bucket}" if found.own_bucket else f"the runs in {bucket}",
            lambda: remove_runs(cloud, found.own_bucket),
        )
    return failures


def remove_runs(cloud: Cloud, own: bool) -> None:
    """Delete every run, and the bucket if cloudknot made it."""
    cloud.storage.delete_prefix(f"{RUNS}/")
    if own:
        cloud.storage.bucket_itself.delete()


def _repositories(cloud: Cloud) -> list[Stored]:
    found = []
    for page in cloud.pages("ecr", "describe_repositories"):
        for repository in page["repositories"]:
            name = repository["repositoryName"]
            if name == DEFAULT_REPOSITORY or OWN_TAG in _tags(cloud, repository["repositoryArn"]):
                images = _images(cloud, name)
                found.append(Stored(name, len(images), sum(image.get("imageSizeInBytes", 0) for image in images)))
    return found


def _tags(cloud: Cloud, arn: str) -> set[str]:
    return {tag["Key"] for tag in cloud.call("ecr", "list_tags_for_resource", resourceArn=arn)["tags"]}


def _images(cloud: Cloud, repository: str) -> list[Mapping[str, Any]]:
    pages = cloud.pages("ecr", "describe_images", repositoryName=repository)
    return [image for page in pages for image in page["imageDetails"]]


def _bucket(cloud: Cloud, own: bool) -> Stored | None:
    """The bucket, if there is anything in it that could be removed."""
    try:
        cloud.call("s3", "head_bucket", Bucket=cloud.bucket)
        pages = cloud.pages("s3", "list_objects_v2", Bucket=cloud.bucket, Prefix=f"{RUNS}/")
        sizes = [int(item["Size"]) for page in pages for item in page.get("Contents", ())]
    except (ResourceDoesNotExistException, PermissionDeniedError):
        return None
    return Stored(cloud.bucket, len(sizes), sum(sizes)) if own or sizes else None


def _storage(stored: Stored, noun: str) -> str:
    return f"storage of {stored.number} {noun}{'s' * (stored.number != 1)}, {size(stored.bytes)}"
