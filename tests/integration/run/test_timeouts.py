"""An attempt that runs too long: a real minute of a real process, and of a container at the same time."""

import pytest

import cloudknot as ck
from cloudknot.errors import JobTimeoutError
from tests.helpers.functions import nap
from tests.integration.conftest import Place, docker_cloud


def napping(place):
    return place.knot("naps", nap, timeout=60).map([600, 0])


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    """A map on a cloud of its own, so that its minute does not hold up the others."""
    with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2) as cloud:
        yield napping(Place(cloud))


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory):
    with docker_cloud(tmp_path_factory.mktemp("cloud")) as place:
        yield napping(place)


def assert_the_first_ran_too_long(future):
    with pytest.raises(JobTimeoutError, match=r"Element 0 .*timeout"):
        future.result(120)
    assert future[1].result() == 0
    assert future.job.status == "FAILED"


def test_a_container_that_runs_too_long_is_ended(in_processes, in_containers):
    assert_the_first_ran_too_long(in_containers)


def test_a_process_that_runs_too_long_is_ended(in_processes):
    assert_the_first_ran_too_long(in_processes)
