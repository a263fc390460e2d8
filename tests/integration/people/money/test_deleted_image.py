"""A job whose image was deleted ends at its first attempt: nine more would cost time and money."""

import shutil

import pytest

import cloudknot as ck
from tests.helpers.waiting import LONG


def negative(x):
    return -x


@pytest.mark.parametrize("retries", [1, 3])
def test_job_without_its_image_ends_at_first_attempt(tmp_path, retries):
    with ck.LocalCloud(tmp_path) as cloud:
        knot = ck.Knot("money-deleted", func=negative, retries=retries, cloud=cloud)
        folder = tmp_path / "images" / knot.image_uri.rpartition(":")[2]
        # A process that is ready for the knot's jobs has loaded the image. It ends with the cloud.
        cloud.stop()
        shutil.move(folder, f"{folder}-away")
        cloud.start()
        future = knot.map([1, 2])
        for element in future:
            error = element.exception(LONG)
            assert isinstance(error, ck.ImagePullError)
            assert "not found" in str(error)
        assert len(future.job.attempts) == 2
        shutil.move(f"{folder}-away", folder)
        assert future.retry_failed().result(LONG) == [-1, -2]
