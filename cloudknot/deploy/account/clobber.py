"""Clobber a knot: end its jobs and delete its resources and, on request, its images, results and Pars.

Resources that other knots use are kept: a Pars, a repository or an image. The caller gets a message for each.

A person without the right to one of the steps changes nothing. All reads and checks come first. Then comes the
deletion of the stack, which needs the highest right. Batch ends the jobs of a queue that it deletes, so nobody can
lose a job to a person who may not delete the queue.

Every step can be repeated and skips resources that are gone already. So another call finishes an interrupted removal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws import batch, clients
from cloudknot.aws.images.ecr import split_uri
from cloudknot.deploy.account.buckets import clouds_of_knot
from cloudknot.deploy.account.rights import check_batch_rights, check_deletion_of_objects, check_image_rights
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.codebuild.project import delete_project
from cloudknot.deploy.inventory import (
    all_stacks,
    is_of,
    knot_stacks,
    knots_of_pars,
    pars_stack_name,
    stack_name,
    users_of_compute,
)
from cloudknot.deploy.knot_stack import revisions_of
from cloudknot.deploy.pars import delete_pars
from cloudknot.errors import (
    CannotDeleteResourceException,
    PermissionDeniedError,
    ResourceClobberedException,
)
from cloudknot.image.unused_images import (
    ImageName,
    images_of,
    knots_by_image,
    knots_by_repository,
    knots_that,
    unneeded,
)
from cloudknot.options import config
from cloudknot.worker.wire.keys import RUNS, SHARED

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
    """The image repository with all its images. While other knots use it, only the knot's own images."""
    image: bool = False
    """The knot's images, except those that other knots use."""
    results: bool = False
    """Inputs and results of all runs."""
    image_uri: str = ""
    """An image of the knot, in case no revision of its job definition names it any longer."""
    ending: tuple[str, ...] = ()
    """All knots that are clobbered in the same call. The last of them deletes the images that they share."""


class UsedPars(NamedTuple):
    """The Pars of a knot: its name and the id of its stack. Both are empty if they are unknown."""

    name: str = ""
    stack_id: str = ""


class Clobbered(NamedTuple):
    """The outcome of a removal: the Pars of the knot, and a message for each shared resource that was kept."""

    pars: UsedPars
    kept: tuple[str, ...]


Runs = Sequence[tuple["Cloud", Sequence[str]]]
"""The cloud in each bucket of a knot, and the names of the folders of the knot's runs in it."""


@dataclass(frozen=True)
class Belongings:
    """The resources of a knot, as they were found before its removal."""

    state: StackState | None
    queue: str
    environment: str
    jobs: list[batch.JobSummary]
    revisions: list[batch.JobDefinition]
    images: set[ImageName]
    former_images: set[ImageName]
    """Images of deleted knots with this name. They may still exist."""
    runs: Runs
    """The runs to delete."""
    pars: UsedPars
    compute: str = ""
    """Name of the knot whose queue and machines it uses. Empty if it has its own."""
    definition: str = ""
    """Name of its job definition."""

    @property
    def repositories(self) -> set[str]:
        return {repository for repository, _ in self.images} or {config.ecr_repo()}


def clobber_knot(
    cloud: Cloud,
    name: str,
    extras: Extras,
    stack_id: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Clobbered:
    """End a knot's jobs and delete its resources, except images and repositories that other knots use.

    Without such a knot, deletes the remains of an interrupted removal.

    Parameters
    ----------
    cloud : Cloud
    name : str
    extras : Extras
    stack_id : str, optional
        The id of the knot's stack when the caller last saw the knot; empty if it had none. A newer knot of the same
        name is then left unchanged. Default: the knot that has the name now.
    sleep : callable

    Raises
    ------
    CannotDeleteResourceException
        A resource could not be deleted; the message names it with the reason. While other knots use the machines of
        this one, this raises before anything is deleted.
    PermissionDeniedError
        The credentials do not allow the removal. Nothing was changed.
    ResourceClobberedException
        The knot was clobbered, and a newer one has its name. Nothing was changed.
    """
    end = _End(cloud, name)
    try:
        found = _find(cloud, name, extras, stack_id)
        _refuse_shared_compute(cloud, name, found)
        _check_rights(cloud, name, found, extras)
        if found.state:
            Stack(cloud, found.state.name).delete(found.state.stack_id, partial(end.when_queue_is_gone, found))
    except PermissionDeniedError as error:
        if end.has_begun:
            raise
        raise PermissionDeniedError(
            f"The knot {name!r} was not clobbered, and nothing was changed. {error}",
            code=error.code,
            operation=error.operation,
            resource_id=name,
        ) from error
    end.now(found)
    _deregister(cloud, found)
    kept = _delete_images(cloud, found, extras)
    # Only on request: the user has paid for the results.
    if extras.results:
        _await_end(cloud, found.jobs, sleep)
        _delete_results(cloud, name, end.runs or found.runs)
    return Clobbered(found.pars, tuple(kept))


def _deregister(cloud: Cloud, found: Belongings) -> None:
    """Deregister all revisions of the knot's job definition."""
    for revision in found.revisions:
        clients.batch(cloud).deregister_job_definition(jobDefinition=revision["jobDefinitionArn"])
    if found.compute:
        # The queue stays, and another session could submit to it until now.
        batch.terminate(cloud.door, batch.live_jobs(cloud, found.queue, found.definition), REASON)


def _find(cloud: Cloud, name: str, extras: Extras, stack_id: str | None) -> Belongings:
    """Read everything that belongs to a knot. Changes nothing."""
    stack = Stack(cloud, stack_name(name))
    state = stack.state()
    if stack_id is not None and state is not None and state.stack_id != stack_id:
        raise ResourceClobberedException(
            f"The knot {name!r} was already clobbered, and a new knot with its name exists. The new one was left "
            f"unchanged. To clobber it, run Knot(name={name!r}).clobber().",
            resource_id=name,
        )
    parameters: Mapping[str, str] = state.parameters if state else {}
    queue = parameters.get("JobQueueName") or f"{stack_name(name)}-job-queue"
    revisions = revisions_of(cloud, name, state)
    images = images_of(revisions)
    images |= {split_uri(extras.image_uri)} if extras.image_uri else set()
    former = _images_of_deleted_knots(cloud, name) if state is None or extras.image else set()
    compute, definition = parameters.get("Compute", ""), parameters.get("JobDefinitionName", "")
    found = Belongings(
        state=state,
        queue=queue,
        environment=parameters.get("ComputeEnvironmentName", ""),
        # Other jobs in the queue of another knot belong to others.
        jobs=batch.live_jobs(cloud, queue, definition if compute else ""),
        revisions=revisions,
        # Without a stack, the knot itself is a deleted one.
        images=images if state else images | former,
        former_images=former,
        # Looked up while the stack still names the job definition.
        runs=_runs(clouds_of_knot(cloud, name), name) if extras.results else (),
        pars=_pars_of(cloud, parameters),
        compute=compute,
        definition=definition,
    )
    # All of this was found by the knot's name, so it may belong to a stack that was created meanwhile. If there is no
    # stack by now, its deletion by another session has ended meanwhile, and these are its remains.
    latest = stack.state()
    if latest and latest.stack_id != (state and state.stack_id):
        raise CannotDeleteResourceException(
            f"Another session is creating the knot {name!r} at this moment. This call changed nothing. "
            f"Run `{cloud.command('list')}` to see the knot's status, and call again when the other "
            "session has finished.",
            operation="cloudformation:describe_stacks",
            resource_id=name,
        )
    return found


def _pars_of(cloud: Cloud, parameters: Mapping[str, str]) -> UsedPars:
    name = parameters.get("ParsName", "")
    state = Stack(cloud, pars_stack_name(name)).state() if name else None
    return UsedPars(name, state.stack_id if state else "")


def _check_rights(cloud: Cloud, name: str, found: Belongings, extras: Extras) -> None:
    """Raise `PermissionDeniedError` if the caller lacks the right to a later step, where that can be checked."""
    if extras.repo or extras.image:
        _check_rights_to_images(cloud, found, extras)
    for bucket_cloud, _ in found.runs:
        check_deletion_of_objects(bucket_cloud, f"{RUNS}/{name}")
    if found.state:
        check_batch_rights(cloud, "" if found.compute else found.queue, found.environment, found.revisions)


def _check_rights_to_images(cloud: Cloud, found: Belongings, extras: Extras) -> None:
    own = {revision["jobDefinitionArn"] for revision in found.revisions}
    others = [each for each in batch.job_definitions(cloud) if each["jobDefinitionArn"] not in own]
    fate = _fate_of_images(cloud, found, extras, knots_by_image(others))
    if extras.repo:
        # All of them, although some may be shared now: the last of two people deletes the repository that both share.
        check_image_rights(map(cloud.repository, found.repositories), whole=True)
    check_image_rights(map(cloud.repository, unneeded(cloud, fate.images, fate.used)), whole=False)


class FateOfImages(NamedTuple):
    """The repositories to delete, the images to delete from others if no knot uses them, and the kept resources."""

    repositories: set[str]
    images: set[ImageName]
    used: Collection[ImageName]
    kept: list[str]


def _fate_of_images(
    cloud: Cloud, found: Belongings, extras: Extras, users: Mapping[ImageName, Collection[str]]
) -> FateOfImages:
    """Decide which images and repositories of a knot are deleted, while other knots use those in ``users``."""
    repositories = {name for name in found.repositories if name} if extras.repo else set()
    images = found.images | found.former_images if extras.repo or extras.image else set()
    knots = knots_by_repository(users)
    shared = repositories & knots.keys()
    images_left = {image for image in images if image[0] not in repositories - shared}
    # The knots of this call are no reason to report: the last of them deletes the images that they share.
    ending = set(extras.ending)
    kept = [_kept_repository(cloud, name, others) for name in sorted(shared) if (others := knots[name] - ending)]
    used_by: dict[str, set[str]] = {}
    for image in images_left & users.keys():
        if image[0] not in shared:
            used_by.setdefault(image[0], set()).update(users[image])
    kept += [_kept_images(cloud, name, others) for name in sorted(used_by) if (others := used_by[name] - ending)]
    return FateOfImages(repositories - shared, images_left, users, kept)


def _kept_repository(cloud: Cloud, name: str, users: Collection[str]) -> str:
    return (
        f"The image repository {name!r} was kept, because {knots_that(users, 'use')} it. Images that no other knot "
        f"uses were deleted from it. {_deleted_with(cloud, 'it', 'repo', users)}"
    )


def _kept_images(cloud: Cloud, name: str, users: Collection[str]) -> str:
    return (
        f"Images in the repository {name!r} were kept, because {knots_that(users, 'use')} them, too. "
        f"{_deleted_with(cloud, 'them', 'image', users)}"
    )


def _deleted_with(cloud: Cloud, what: str, option: str, users: Collection[str]) -> str:
    """Return the sentence that names the command for a kept resource."""
    command = cloud.command(" ".join([f"clobber --{option}", *sorted(users)]))
    last = "the last of these knots" if len(users) > 1 else "that knot"
    return f"To delete {what} with {last}, run `{command}`."


@dataclass
class _End:
    """The end of a knot's jobs: when Batch deletes their queue, and not before."""

    cloud: Cloud
    name: str
    has_begun: bool = False
    """Whether AWS has accepted the deletion of the stack."""
    is_done: bool = False
    runs: Runs = ()
    """The runs at the end of the queue. Empty if they may include those of a newer knot of the same name."""

    def when_queue_is_gone(self, found: Belongings) -> None:
        """End the jobs if Batch has deleted the queue, or is deleting it."""
        self.has_begun = True
        if self.is_done:
            return
        if found.compute:
            # This queue stays. The stack only needs its job role and its log group as long as jobs run.
            self.now(found)
            return
        queues = clients.batch(self.cloud).describe_job_queues(jobQueues=[found.queue])["jobQueues"]
        if all(queue.get("status") in ("DELETING", "DELETED") for queue in queues):
            self.now(found)

    def now(self, found: Belongings) -> None:
        """End the jobs, and look for runs since the first look. Does nothing the second time."""
        if self.is_done:
            return
        runs = _runs([bucket_cloud for bucket_cloud, _ in found.runs], self.name)
        # Nobody can submit to this queue any more. As long as the stack exists, there is no newer knot.
        if runs and found.state and Stack(self.cloud, found.state.name).state(found.state.stack_id):
            self.runs = runs
        # Batch ends the jobs of a deleted queue by itself, but only 16 in a second (API reference, DeleteJobQueue).
        # So a person without the right to end jobs may go on. For a queue that stays, that right was checked.
        with suppress(PermissionDeniedError):
            batch.terminate(self.cloud.door, found.jobs, REASON)
        self.is_done = True


def _runs(clouds: Iterable[Cloud], name: str) -> Runs:
    return [(bucket_cloud, bucket_cloud.storage.folders(f"{RUNS}/{name}/")) for bucket_cloud in clouds]


def _await_end(cloud: Cloud, jobs: Sequence[batch.JobSummary], sleep: Callable[[float], None]) -> None:
    """Wait until jobs have ended, at most `JOBS_END` seconds."""
    waited, live = 0.0, [job["jobId"] for job in jobs]
    while live and waited < JOBS_END:
        described = batch.describe_jobs(cloud.door, live)
        live = [job["jobId"] for job in described if job["status"] in batch.LIVE_STATES]
        if live:
            sleep(POLL)
            waited += POLL


def _delete_images(cloud: Cloud, found: Belongings, extras: Extras) -> list[str]:
    """Delete the images and repositories that no other knot uses. Return a message for each that was kept."""
    if not (extras.repo or extras.image):
        return []
    # The knot's own revisions are inactive by now, so the active ones are those of other knots. They are read again,
    # because another person may have clobbered the other knots in the meantime, and kept the images for this one.
    fate = _fate_of_images(cloud, found, extras, knots_by_image(batch.job_definitions(cloud)))
    for repository in sorted(fate.repositories):
        cloud.repository(repository).clobber()
    for repository, digests in unneeded(cloud, fate.images, fate.used).items():
        cloud.repository(repository).delete_images(digests)
    return fate.kept


def _delete_results(cloud: Cloud, name: str, runs: Runs) -> None:
    """Delete the runs of a knot that no longer exists."""
    prefix = f"{RUNS}/{name}/"
    for bucket_cloud, folders in runs:
        for folder in folders:
            if folder != SHARED:
                bucket_cloud.storage.delete_prefix(f"{prefix}{folder}/")
        # Then the shared and all other objects, unless a new knot of the same name may use them already.
        if Stack(cloud, stack_name(name)).state() is None:
            bucket_cloud.storage.delete_prefix(prefix)


def _refuse_shared_compute(cloud: Cloud, name: str, found: Belongings) -> None:
    """Raise if other knots use the queue and the machines of a knot: its removal would end their jobs."""
    users_of = users_of_compute(cloud) if found.state and not found.compute else {}
    if users := sorted(user for user, used in users_of.items() if used == name):
        raise CannotDeleteResourceException(
            f"The knot {name!r} was not clobbered, and nothing was changed, because {knots_that(users, 'use')} its "
            f"queue and its machines (compute=). Clobber {'those knots' if len(users) > 1 else 'that knot'}, too: "
            f"`{cloud.command(' '.join(['clobber', *users, name]))}`.",
            operation="cloudformation:delete_stack",
        )


def remains(cloud: Cloud, name: str, extras: Extras) -> str | None:
    """Return the id of a knot's stack; empty if only remains of the knot exist, None if nothing does."""
    state = Stack(cloud, stack_name(name)).state()
    if state is not None:
        return state.stack_id
    return "" if _has_remains(cloud, name, extras) else None


def _has_remains(cloud: Cloud, name: str, extras: Extras) -> bool:
    """Return whether `clobber_knot` would delete anything for the name of a knot without a stack."""
    if revisions_of(cloud, name, None):
        return True
    prefix = f"{RUNS}/{name}/"
    clouds = clouds_of_knot(cloud, name) if extras.results else ()
    if any(any(bucket_cloud.storage.keys(prefix)) for bucket_cloud in clouds):
        return True
    if not (extras.repo or extras.image):
        return False
    used = set() if extras.repo else images_of(batch.job_definitions(cloud))
    return bool(unneeded(cloud, _images_of_deleted_knots(cloud, name), used))


def _images_of_deleted_knots(cloud: Cloud, name: str) -> set[ImageName]:
    """Return the images of deleted knots with this name. They may still exist."""
    revisions = batch.job_definitions(cloud, "INACTIVE")
    return images_of(revision for revision in revisions if is_of(revision, stack_name(name)))


def clobber_shared(cloud: Cloud, name: str, pars: UsedPars) -> str:
    """Delete the Pars of a clobbered knot, and the project for builds if no knot remains in the region.

    While other knots use the Pars, nothing is deleted. Return a message about that; empty if the Pars is gone.

    Raises
    ------
    CannotDeleteResourceException
        A resource could not be deleted.
    """
    # The Pars comes last. By then, everything that costs money is gone.
    if users := knots_of_pars(cloud, pars.name):
        return (
            f"The shared resources (Pars) {pars.name!r} were kept, because {knots_that(users, 'use')} them. They cost "
            f"nothing. {_deleted_with(cloud, 'them', 'pars', users)}"
        )
    try:
        delete_pars(cloud, pars.name, pars.stack_id or None)
        if not knot_stacks(all_stacks(cloud)):
            delete_project(cloud)
    except CannotDeleteResourceException as error:
        raise CannotDeleteResourceException(
            f"The knot {name!r} was clobbered, but its shared resources were not. {error}",
            operation=error.operation,
            resource_id=error.resource_id,
        ) from error
    return ""
