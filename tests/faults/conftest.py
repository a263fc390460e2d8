"""Fixtures for tests under faults: one embedded cloud, its knots, and switches that are off after each test."""

import threading

import pytest

import cloudknot as ck
from tests.faulty_cloud.cloud import FaultyCloud
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.waiting import until


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """A running embedded cloud with four vCPUs, for this pytest worker only."""
    with FaultyCloud(tmp_path_factory.mktemp("faults"), vcpus=4, quota=1000) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def knot_of(cloud):
    """Return a knot for a function. The same function and choices give the same knot."""
    knots = {}

    def make(func, **choices):
        key = (func, tuple(sorted(choices.items())))
        if key not in knots:
            knots[key] = ck.Knot(name=f"faults-{len(knots)}", func=func, cloud=cloud, **choices)
        return knots[key]

    return make


def collectors():
    """Return the threads that collect results."""
    return {thread for thread in threading.enumerate() if thread.name == "cloudknot-collector"}


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Wait after each test until its jobs and collectors have ended: they would meet the faults of the next test."""
    cloud = request.getfixturevalue("cloud") if "cloud" in request.fixturenames else None
    earlier = collectors()
    yield
    until(lambda: collectors() <= earlier)
    if cloud is not None:
        until(FaultSwitches(cloud).is_idle)


@pytest.fixture
def switches(cloud):
    """The fault switches of the cloud, all off before and after the test."""
    switches = FaultSwitches(cloud)
    switches.off()
    yield switches
    switches.off()
