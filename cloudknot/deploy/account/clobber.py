"""Clobber a knot: end its jobs and delete its resources and, on request, its images, results and Pars.

Every step can be repeated and skips resources that are gone already. So another call finishes an interrupted removal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws import batch, clients
from cloudknot.aws.tags import OWN_TAG
from cloudknot.deploy.account.buckets import clouds_of_knot
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import KNOT, is_of, job_definitions, stack_name
from cloudknot.deploy.knot_stack import delete_knot, revisions_of
from cloudknot.deploy.pars import delete_pars
from cloudknot.errors import CannotDeleteResourceException, CloudError
from cloudknot.image.repository import repository_of, split_uri
from cloudknot.image.unused_images import ImageName, images_of, unneeded
from cloudknot.options import config
from cloudknot.worker.wire.keys import RUNS

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

REASON = "The knot was clobbered"
# Batch gives a process 30 seconds between SIGTERM and SIGKILL. It may still store results in that time.
JOBS_END = 120.0
"""Longest wait in seconds for running jobs to end before their results are deleted."""
POLL = 0.5
"""Seconds between two looks at the jobs."""


@dataclass(frozen=True)
class Extras:
    """Objects to delete in addition to the knot's own resources."""

    repo: bool = False
    """The image repository with all its images."""
    image: bool = False
    """The knot's images, except those that other knots use."""
    results: bool = False
    """Inputs and results of all runs."""
    image_uri: str = ""
    """An image of the knot, in case no revision of its job definition names it any longer."""
    ending: tuple[str, ...] = ()
    """Other knots that are clobbered in the same call, and need no images either."""


def clobber_knot(cloud: Cloud, name: str, extras: Extras, sleep: Callable[[float], None] = time.sleep) -> str:
    """End a knot's jobs, delete its resources, and return the name of its Pars.

    Without such a knot, deletes the remains of an interrupted removal. The returned name is empty if it is unknown.

    Raises
    ------
    CannotDeleteResourceException
        A resource could not be deleted; the message names it with the reason. While other knots use the repository,
        ``Extras.repo`` raises before anything is deleted.
    """
    state = Stack(cloud, stack_name(name)).state()
    parameters: Mapping[str, str] = state.parameters if state else {}
    images = images_of(revisions_of(cloud, name, state))
    images |= {split_uri(extras.image_uri)} if extras.image_uri else set()
    if state is None or (extras.image and not extras.repo):
        images |= _images_of_deleted_knots(cloud, name)
    repositories = {repository for repository, _ in images} or {config.ecr_repo()}
    if extras.repo:
        _refuse_in_use(cloud, repositories, {name, *extras.ending})
    queue = parameters.get("JobQueueName") or f"{stack_name(name)}-job-queue"
    # Looked up while the stack still names the job definition. The results themselves go last.
    clouds = clouds_of_knot(cloud, name) if extras.results else []
    _end_jobs(cloud, queue, sleep if extras.results else None)
    delete_knot(cloud, name)
    if extras.repo:
        for repository in repositories:
            cloud.repository(repository).clobber()
    elif extras.image:
        # The knot's own revisions are inactive by now, so the active ones are those of other knots.
        for repository, digests in unneeded(cloud, images, images_of(job_definitions(cloud))).items():
            cloud.repository(repository).delete_images(digests)
    # Only on request: the user has paid for the results.
    for bucket_cloud in clouds:
        bucket_cloud.storage.delete_prefix(f"{RUNS}/{name}/")
    return parameters.get("ParsName", "")


def live_jobs(cloud: Cloud, queue: str) -> list[batch.JobSummary]:
    """Return the jobs of a queue that have not ended; none for a queue that does not exist."""
    try:
        return list(_live_jobs(cloud, queue))
    except CloudError as error:
        if batch.is_gone(error):
            return []
        raise


def _live_jobs(cloud: Cloud, queue: str) -> Iterator[batch.JobSummary]:
    for status in batch.LIVE_STATES:
        for page in clients.batch(cloud).get_paginator("list_jobs").paginate(jobQueue=queue, jobStatus=status):
            yield from page["jobSummaryList"]


def _end_jobs(cloud: Cloud, queue: str, sleep: Callable[[float], None] | None) -> None:
    """End the jobs of a queue. With ``sleep``, also wait until they have ended."""
    if jobs := live_jobs(cloud, queue):
        batch.terminate(cloud.door, jobs, REASON)
    waited = 0.0
    while sleep and waited < JOBS_END and live_jobs(cloud, queue):
        sleep(POLL)
        waited += POLL


def _refuse_in_use(cloud: Cloud, repositories: set[str], ending: set[str]) -> None:
    """Raise if knots other than ``ending`` have images in the repositories."""
    repository_by_knot: dict[str, str] = {}
    for definition in job_definitions(cloud):
        image = str(definition.get("containerProperties", {}).get("image", ""))
        if (repository := repository_of(image)) in repositories:
            tag = definition.get("tags", {}).get(OWN_TAG)
            stack = str(tag or definition["jobDefinitionName"].removesuffix("-job-definition"))
            repository_by_knot[stack.removesuffix(KNOT)] = repository
    if users := sorted(repository_by_knot.keys() - ending):
        several = len(users) > 1
        knots = f"the knot{'s' * several} {', '.join(map(repr, users))} {'use' if several else 'uses'}"
        raise CannotDeleteResourceException(
            f"Nothing was deleted, because {knots} the image repository {repository_by_knot[users[0]]!r}, too. Delete "
            f"only this knot's own images (clobber_image=True, or --image on the command line), or clobber the other "
            f"knot{'s' * several} first: `cloudknot clobber {' '.join(users)}`.",
            operation="ecr:delete_repository",
        )


def has_remains(cloud: Cloud, name: str, extras: Extras) -> bool:
    """Return whether `clobber_knot` would delete anything for a name: a knot or the remains of one."""
    state = Stack(cloud, stack_name(name)).state()
    if state or revisions_of(cloud, name, state):
        return True
    prefix = f"{RUNS}/{name}/"
    clouds = clouds_of_knot(cloud, name) if extras.results else ()
    if any(any(bucket_cloud.storage.keys(prefix)) for bucket_cloud in clouds):
        return True
    if not (extras.repo or extras.image):
        return False
    used = set() if extras.repo else images_of(job_definitions(cloud))
    return bool(unneeded(cloud, _images_of_deleted_knots(cloud, name), used))


def _images_of_deleted_knots(cloud: Cloud, name: str) -> set[ImageName]:
    """Return the images of deleted knots with this name. They may still exist."""
    revisions = job_definitions(cloud, "INACTIVE")
    return images_of(revision for revision in revisions if is_of(revision, stack_name(name)))


def clobber_shared(cloud: Cloud, name: str, pars: str) -> None:
    """Delete the Pars of a clobbered knot; raise `CannotDeleteResourceException` while other knots use it."""
    # The Pars comes last, because other knots are a good reason to keep it. By then, everything that costs money is
    # gone.
    try:
        delete_pars(cloud, pars)
    except CannotDeleteResourceException as error:
        raise CannotDeleteResourceException(
            f"The knot {name!r} was clobbered, but its shared resources were not. {error}",
            operation=error.operation,
        ) from error
