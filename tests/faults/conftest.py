"""An embedded cloud of their own for the tests under faults, and switches that are off again after each."""

import pytest

import cloudknot as ck
from cloudknot.local import FaultSwitches


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """A running embedded cloud of this process, with four vCPUs."""
    with ck.LocalCloud(tmp_path_factory.mktemp("faults"), vcpus=4, quota=1000) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def knot_of(cloud):
    """Make a knot of a function; the same one for the same function and choices."""
    knots = {}

    def make(func, **choices):
        key = (func, tuple(sorted(choices.items())))
        if key not in knots:
            knots[key] = ck.Knot(name=f"faults-{len(knots)}", func=func, cloud=cloud, **choices)
        return knots[key]

    return make


@pytest.fixture
def switches(cloud):
    """The switches of the faults: all off before and after."""
    switches = FaultSwitches(cloud)
    switches.off()
    yield switches
    switches.off()
