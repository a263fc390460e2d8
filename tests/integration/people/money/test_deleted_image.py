"""A job whose image was deleted ends at its first attempt: nine more would cost time and money."""

import shutil
from pathlib import Path

import pytest

import cloudknot as ck
from tests.helpers.waiting import LONG


@pytest.mark.parametrize("retries", [1, 3])
def test_job_without_its_image_ends_at_first_attempt(cloud, retries):
    def negative(x):
        # Of its own in each case, since a process may have loaded the image of the other case.
        return -x if retries else 0

    knot = ck.Knot(f"money-deleted-{retries}", func=negative, retries=retries, cloud=cloud)
    folder = Path(cloud.directory) / "images" / knot.image_uri.rpartition(":")[2]
    shutil.move(folder, f"{folder}-away")
    try:
        future = knot.map([1, 2])
        for element in future:
            error = element.exception(LONG)
            assert isinstance(error, ck.ImagePullError)
            assert "not found" in str(error)
        assert len(future.job.attempts) == 2
    finally:
        shutil.move(f"{folder}-away", folder)
    assert future.retry_failed().result(LONG) == [-1, -2]
