"""An attempt that runs too long, with a real process and a real minute, beside the other integration tests."""

import time

import pytest

import cloudknot as ck
from cloudknot.errors import JobTimeoutError


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A cloud of its own, so that its minute does not hold up the others."""
    with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2) as cloud:
        yield cloud


def nap(seconds):
    time.sleep(seconds)
    return seconds


@pytest.mark.xdist_group("timeouts")
def test_an_attempt_that_runs_too_long_is_ended(cloud):
    future = ck.Knot(name="naps", func=nap, timeout=60, cloud=cloud).map([600, 0])
    with pytest.raises(JobTimeoutError, match=r"Element 0 .*timeout"):
        future.result(120)
    assert future[1].result() == 0
    assert future.job.status == "FAILED"
