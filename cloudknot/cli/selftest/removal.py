"""Remove everything that a check has made, by its names alone, in any state of the check."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.deploy.account.clobber import Extras, clobber_knot
from cloudknot.deploy.pars import delete_pars
from cloudknot.errors import CannotDeleteResourceException, CloudknotError

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.cli.selftest.plan import Plan


def remove_all(cloud: Cloud, plan: Plan, *, bucket_too: bool) -> list[CloudknotError]:
    """Delete the knots of a check with their runs, its Pars and its repository, and return the errors.

    Resources that do not exist are skipped. ``bucket_too`` also deletes the bucket, if it is empty and cloudknot's.
    """
    ending = plan.knots
    deletions: list[Callable[[], object]] = [
        *(partial(clobber_knot, cloud, name, Extras(results=True, ending=ending), None) for name in plan.knots),
        partial(delete_pars, cloud, plan.pars),
        cloud.repository(plan.repository).clobber,
    ]
    if bucket_too:
        deletions.append(partial(_delete_bucket, cloud))
    return [error for deletion in deletions if (error := _error_of(deletion)) is not None]


def _error_of(deletion: Callable[[], object]) -> CloudknotError | None:
    # After a failure the other resources are still deleted, because they may cost money.
    try:
        deletion()
    except CloudknotError as error:
        return error
    return None


def _delete_bucket(cloud: Cloud) -> None:
    bucket = cloud.storage.bucket_itself
    if not bucket.is_made_by_cloudknot():
        return
    try:
        bucket.delete()
    except CannotDeleteResourceException:
        # Somebody has begun to use it. S3 refuses to delete a bucket with objects.
        return


def commands(plan: Plan) -> str:
    """Return the commands that remove the leftovers of a check."""
    return (
        f"cloudknot clobber {' '.join(plan.knots)} --pars --results\n"
        f"aws ecr delete-repository --force --repository-name {plan.repository}"
    )
