"""`cloudknot prune` deletes the images that nothing uses, and no image that a map, a retry or a person needs."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

import cloudknot as ck
from cloudknot.aws.batch import job_definitions
from cloudknot.deploy.account.prune import Unused, UnusedImage, find_unused
from cloudknot.run.jobs.needed import needed_revisions
from tests.helpers.functions import cube, double, square
from tests.helpers.waiting import LONG, until


def fails_at_zero(x):
    return 1 / x


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module alone: a prune reads and deletes all images of a region."""
    with ck.LocalCloud(tmp_path_factory.mktemp("prune"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def prune(cloud, command_on):
    return partial(command_on(cloud), "prune")


def tags_in(cloud):
    return {tag for tags in cloud.repository("cloudknot").images().values() for tag in tags}


def tag_of(knot):
    return knot.image_uri.rpartition(":")[2]


def environment_of(cloud, knot):
    (revision,) = [item for item in job_definitions(cloud) if item["jobDefinitionArn"] == knot.job_definition.arn]
    return revision["parameters"]["environment"]


def arns(cloud):
    return {item["jobDefinitionArn"] for item in job_definitions(cloud)}


def test_prune_deletes_only_images_without_use(cloud, prune):
    # An earlier function and environment of a knot that goes on; its run has succeeded.
    first = ck.Knot("goes-on", func=square, requirements=["six==1.16.0"], cloud=cloud)
    done = first.map([3])
    assert done.result(LONG) == [9]
    until(lambda: done.job.status == "SUCCEEDED")
    second = ck.Knot("goes-on", func=cube, requirements=[], cloud=cloud)
    # An earlier function whose run has failed, and may be retried.
    failing = ck.Knot("failing", func=fails_at_zero, requirements=[], cloud=cloud)
    failed = failing.map([0, 1])
    assert isinstance(failed[0].exception(LONG), ZeroDivisionError)
    newer = ck.Knot("failing", func=double, requirements=[], cloud=cloud)
    # A clobbered knot whose image was kept, and one with a tag of the user's own.
    gone = ck.Knot("gone", func=abs, requirements=[], cloud=cloud)
    gone.clobber()
    mine = ck.Knot("mine", func=len, requirements=[], image_tags=["paper-2026"], cloud=cloud)
    mine.clobber()
    before, definitions = tags_in(cloud), arns(cloud)
    unused = {tag_of(first), environment_of(cloud, first), tag_of(gone)}
    assert unused < before

    young = prune("--yes")
    assert (young.exit_code, tags_in(cloud)) == (0, before)
    assert "older than 90 days" in young.output
    shown = prune("--days", "0", "--dry-run")
    assert (shown.exit_code, tags_in(cloud)) == (0, before)
    assert "cloudknot" in shown.output
    assert "3 images" in shown.output
    refused = prune("--days", "0", input="n\n")
    assert (refused.exit_code, tags_in(cloud)) == (1, before)
    pruned = prune("--days", "0", "--yes")
    assert pruned.exit_code == 0, pruned.output
    assert tags_in(cloud) == before - unused
    assert arns(cloud) == definitions - {first.job_definition.arn}

    # All that was kept still works, and results need no image.
    assert second.map([3]).result(LONG) == [27]
    assert newer.map([3]).result(LONG) == [6]
    until(lambda: failed.job.status == "FAILED")
    retried = ck.BatchJob(failed.job.job_id, cloud=cloud).retry_failed()
    assert isinstance(retried[0].exception(LONG), ZeroDivisionError)
    assert ck.BatchJob(done.job.job_id, cloud=cloud).result(LONG) == [9]
    # The deleted environment is made again by whoever needs it.
    assert ck.Knot("goes-on", func=square, requirements=["six==1.16.0"], cloud=cloud).map([4]).result(LONG) == [16]


def test_revisions_of_young_and_of_failed_runs_are_needed(cloud):
    knot = ck.Knot("needs", func=fails_at_zero, requirements=[], cloud=cloud)
    assert isinstance(knot.map([0]).exception(LONG), ZeroDivisionError)
    succeeded = ck.Knot("needs", func=double, requirements=[], cloud=cloud)
    future = succeeded.map([2])
    assert future.result(LONG) == [4]
    # Batch reports the end a moment after the last result.
    until(lambda: future.job.status == "SUCCEEDED")
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert {knot.job_definition.arn, succeeded.job_definition.arn} <= needed_revisions(cloud, now - hour)
    later = needed_revisions(cloud, now + hour)
    assert knot.job_definition.arn in later
    assert succeeded.job_definition.arn not in later


def test_image_pushed_after_the_limit_stays_with_its_revision(cloud):
    first = ck.Knot("young", func=square, requirements=["six==1.15.0"], cloud=cloud)
    ck.Knot("young", func=cube, requirements=[], cloud=cloud)
    now = datetime.now(UTC)
    young = find_unused(cloud, set(), now - timedelta(hours=1))
    assert not young
    assert young.revisions == ()
    old = find_unused(cloud, set(), now + timedelta(hours=1))
    assert first.job_definition.arn in old.revisions
    assert tag_of(first) in {tag for image in old.images for tag in image.tags}


def test_only_images_that_are_still_unused_are_deleted():
    time = datetime.now(UTC)
    one, two = (UnusedImage("cloudknot", f"sha256:{name}", (name,), 1, time) for name in "ab")
    both, latest = Unused((one, two), ("arn:1", "arn:2")), Unused((two,), ("arn:2",))
    assert both.also_in(latest) == latest
