"""One embedded cloud for all integration tests, and one knot for each function that they map."""

import os
from pathlib import Path

import pytest

import cloudknot as ck


def pytest_collection_modifyitems(items):
    """Keep what shares the cloud in one process, also under pytest-xdist."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("cloud"))


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """A running embedded cloud of its own, with two vCPUs. CLOUDKNOT_TEST_DIR keeps its environments between runs."""
    directory = os.environ.get("CLOUDKNOT_TEST_DIR") or tmp_path_factory.mktemp("cloud")
    with ck.LocalCloud(directory, vcpus=2) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def knot_of(cloud):
    """Make a knot of a function; the same one for the same function and choices."""
    knots = {}

    def make(func, **choices):
        key = (func, tuple(sorted(choices.items())))
        if key not in knots:
            knots[key] = ck.Knot(name=f"test-{len(knots)}", func=func, cloud=cloud, **choices)
        return knots[key]

    return make
