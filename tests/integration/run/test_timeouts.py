"""The embedded cloud ends an attempt at its timeout, as a process and as a container.

Both maps run during the same real minute, the shortest timeout that Batch accepts.
"""

import pytest

import cloudknot as ck
from cloudknot.errors import JobTimeoutError
from tests.helpers.functions import nap
from tests.integration.conftest import Place, docker_cloud


def nap_map(place):
    """Map over one element that runs longer than its timeout and one that ends at once."""
    return place.knot("naps", nap, timeout=60).map([600, 0])


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    """Yield a map on a cloud of its own, so that its minute does not hold up other tests."""
    with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2) as cloud:
        yield nap_map(Place(cloud))


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory):
    with docker_cloud(tmp_path_factory.mktemp("cloud")) as place:
        yield nap_map(place)


def assert_first_element_timed_out(future):
    with pytest.raises(JobTimeoutError, match=r"Element 0 .*timeout"):
        future.result(120)
    assert future[1].result() == 0
    assert future.job.status == "FAILED"


def test_container_is_ended_at_its_timeout(in_processes, in_containers):
    # Both fixtures here, so that the two maps run at the same time.
    assert_first_element_timed_out(in_containers)


def test_process_is_ended_at_its_timeout(in_processes):
    assert_first_element_timed_out(in_processes)
