"""The embedded clouds of the integration tests, and one knot for each function that they map."""

import contextlib
from dataclasses import dataclass, field

import pytest

import cloudknot as ck
from tests.docker import machine
from tests.helpers.gate import Gate


@dataclass(frozen=True)
class Place:
    """A running cloud, and the choices with which a knot runs there."""

    cloud: ck.LocalCloud
    choices: dict = field(default_factory=dict)

    def knot(self, name, func, **choices):
        return ck.Knot(name=name, func=func, cloud=self.cloud, **self.choices, **choices)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """A running embedded cloud of this process, with two vCPUs."""
    with ck.LocalCloud(tmp_path_factory.mktemp("cloud"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture
def own_cloud(tmp_path):
    """A cloud for one test that changes what knots share, or is rough with the cloud."""
    with ck.LocalCloud(tmp_path / "own", vcpus=2) as cloud:
        yield cloud


@contextlib.contextmanager
def docker_cloud(directory):
    """A running embedded cloud whose jobs are containers, of images on this machine's base image."""
    found = machine()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.login.items():
            patch.setenv(name, value)
        cloud = ck.LocalCloud(directory, vcpus=2, quota=1000, runner="docker", registry=found.registry)
        cloud.start()
    with cloud:
        yield Place(cloud, {"base_image": found.base_image})


@pytest.fixture(scope="session")
def docker_place(tmp_path_factory):
    with docker_cloud(tmp_path_factory.mktemp("docker")) as place:
        yield place


@pytest.fixture(scope="session", params=["process", "docker"])
def place(request):
    """Where a map runs: a test that asks for this runs once on each runner of the embedded cloud."""
    if request.param == "docker":
        return request.getfixturevalue("docker_place")
    return Place(request.getfixturevalue("cloud"))


@pytest.fixture(scope="session")
def knot_on():
    """Make a knot of a function in a place; the same one for the same function and choices."""
    knots = {}

    def make(place, func, **choices):
        key = (id(place.cloud), func, tuple(sorted(choices.items())))
        if key not in knots:
            knots[key] = place.knot(f"test-{len(knots)}", func, **choices)
        return knots[key]

    return make


@pytest.fixture
def knot_of(place, knot_on):
    """Make a knot of a function on each runner in turn."""
    return lambda func, **choices: knot_on(place, func, **choices)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def process_knot_of(cloud, knot_on):
    """Make a knot of a function on the process runner: for what Batch decides, whatever a job is."""
    return lambda func, **choices: knot_on(Place(cloud), func, **choices)
