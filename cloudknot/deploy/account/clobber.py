"""The end of a knot: its jobs, its resources and, as asked, its images, its results and what it shares.

Every step can be repeated and takes what is gone already as done, so an interrupted removal is finished by another
one. What others need goes last: first the jobs, then what runs them, then what knots share.
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
JOBS_END = 120.0
"""Seconds for running jobs to end before their results are deleted: Batch gives each 30 from its SIGTERM."""
POLL = 0.5


@dataclass(frozen=True)
class Also:
    """What is removed besides the knot's own resources."""

    repo: bool = False
    image: bool = False
    results: bool = False
    image_uri: str = ""
    """An image that is known to be the knot's, should nothing else tell any more."""
    ending: tuple[str, ...] = ()
    """Other knots that are clobbered together with it, and so need no image any more."""


def clobber_knot(cloud: Cloud, name: str, also: Also, sleep: Callable[[float], None] = time.sleep) -> str:
    """End a knot's jobs and delete what was made for it; without such a knot, what an interrupted removal left.

    Gives the name of the Pars that it used, empty when that is not known any more.

    Raises
    ------
    CannotDeleteResourceException
        Something could not be deleted; the message says what and why. While other knots use the repository that is to
        go, nothing is deleted.
    """
    state = Stack(cloud, stack_name(name)).state()
    parameters: Mapping[str, str] = state.parameters if state else {}
    images = images_of(revisions_of(cloud, name, state))
    images |= {split_uri(also.image_uri)} if also.image_uri else set()
    if state is None or (also.image and not also.repo):
        images |= _images_of_before(cloud, name)
    repositories = {repository for repository, _ in images} or {config.ecr_repo()}
    if also.repo:
        _refuse_in_use(cloud, repositories, {name, *also.ending})
    queue = parameters.get("JobQueueName") or f"{stack_name(name)}-job-queue"
    clouds = clouds_of_knot(cloud, name) if also.results else []
    _end_jobs(cloud, queue, sleep if also.results else None)
    delete_knot(cloud, name)
    if also.repo:
        for repository in repositories:
            cloud.repository(repository).clobber()
    elif also.image:
        # The knot's own revisions are inactive by now.
        for repository, digests in unneeded(cloud, images, images_of(job_definitions(cloud))).items():
            cloud.repository(repository).delete_images(digests)
    for each in clouds:
        each.storage.delete_prefix(f"{RUNS}/{name}/")
    return parameters.get("ParsName", "")


def live_jobs(cloud: Cloud, queue: str) -> list[batch.JobSummary]:
    """The jobs of a queue that have not ended; a queue that is not there has none."""
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
    """End the jobs of a queue; with a ``sleep``, wait until they have ended."""
    if jobs := live_jobs(cloud, queue):
        batch.terminate(cloud.door, jobs, REASON)
    waited = 0.0
    while sleep and waited < JOBS_END and live_jobs(cloud, queue):
        sleep(POLL)
        waited += POLL


def _refuse_in_use(cloud: Cloud, repositories: set[str], ending: set[str]) -> None:
    """Refuse to delete repositories with images of knots other than ``ending``."""
    used: dict[str, str] = {}
    for one in job_definitions(cloud):
        if (repository := repository_of(str(one.get("containerProperties", {}).get("image", "")))) in repositories:
            own = str(one.get("tags", {}).get(OWN_TAG) or one["jobDefinitionName"].removesuffix("-job-definition"))
            used[own.removesuffix(KNOT)] = repository
    if others := sorted(used.keys() - ending):
        knots = f"the knot{'s' * (len(others) > 1)} {', '.join(map(repr, others))}"
        raise CannotDeleteResourceException(
            f"The image repository {used[others[0]]!r} is used by {knots}, so nothing was deleted. Delete only the "
            f"knot's own images (clobber_image=True, --image), or clobber the others first "
            f"(`cloudknot clobber {' '.join(others)}`).",
            operation="ecr:delete_repository",
        )


def is_there(cloud: Cloud, name: str, also: Also) -> bool:
    """Whether there is a knot of that name, or anything of it that `clobber_knot` would remove."""
    state = Stack(cloud, stack_name(name)).state()
    if state or revisions_of(cloud, name, state):
        return True
    if also.results and any(any(each.storage.keys(f"{RUNS}/{name}/")) for each in clouds_of_knot(cloud, name)):
        return True
    if not (also.repo or also.image):
        return False
    used = set() if also.repo else images_of(job_definitions(cloud))
    return bool(unneeded(cloud, _images_of_before(cloud, name), used))


def _images_of_before(cloud: Cloud, name: str) -> set[ImageName]:
    """The images of knots of that name that were removed, but perhaps not their images."""
    return images_of(one for one in job_definitions(cloud, "INACTIVE") if is_of(one, stack_name(name)))


def clobber_shared(cloud: Cloud, name: str, pars: str) -> None:
    """Delete the Pars of a knot that was clobbered. Raises `CannotDeleteResourceException` while others use it."""
    try:
        delete_pars(cloud, pars)
    except CannotDeleteResourceException as error:
        raise CannotDeleteResourceException(
            f"The knot {name!r} was clobbered, but not what it shares. {error}",
            operation=error.operation,
        ) from error
