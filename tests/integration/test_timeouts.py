"""An attempt that runs too long: a real minute of a real process, or container, beside the other integration tests."""

import time

import pytest

import cloudknot as ck
from cloudknot.errors import JobTimeoutError
from tests.integration.conftest import Place, docker_cloud

RUNNERS = [pytest.param(name, marks=pytest.mark.xdist_group(f"timeouts-{name}")) for name in ("process", "docker")]


@pytest.fixture(scope="module", params=RUNNERS)
def place(request, tmp_path_factory):
    """A cloud of its own on each runner, so that its minute does not hold up the others."""
    if request.param == "docker":
        with docker_cloud(tmp_path_factory.mktemp("cloud")) as place:
            yield place
    else:
        with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2) as cloud:
            yield Place(cloud)


def nap(seconds):
    time.sleep(seconds)
    return seconds


def test_an_attempt_that_runs_too_long_is_ended(place):
    future = place.knot("naps", nap, timeout=60).map([600, 0])
    with pytest.raises(JobTimeoutError, match=r"Element 0 .*timeout"):
        future.result(120)
    assert future[1].result() == 0
    assert future.job.status == "FAILED"
