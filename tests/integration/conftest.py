"""Fixtures for the integration tests: embedded clouds, and one knot for each function under test."""

import contextlib
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from tests.docker import machine
from tests.faulty_cloud.cloud import FaultyCloud
from tests.helpers.gate import Gate


@dataclass(frozen=True)
class Place:
    """A running cloud, with the choices that a knot needs there."""

    cloud: ck.LocalCloud
    choices: dict = field(default_factory=dict)

    def knot(self, name, func, **choices):
        return ck.Knot(name=name, func=func, cloud=self.cloud, **self.choices, **choices)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """Yield the embedded cloud that the tests of one pytest process share. It has two vCPUs, and can inject faults."""
    with FaultyCloud(tmp_path_factory.mktemp("cloud"), vcpus=2, quota=1000) as cloud:
        yield cloud


@pytest.fixture
def own_cloud(tmp_path):
    """Yield a cloud for one test that changes shared resources, or stops or kills the cloud."""
    with ck.LocalCloud(tmp_path / "own", vcpus=2) as cloud:
        yield cloud


@contextlib.contextmanager
def docker_cloud(directory):
    """Yield a running embedded cloud that executes jobs as containers. Images build on this machine's base image."""
    docker_machine = machine()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in docker_machine.login.items():
            patch.setenv(name, value)
        cloud = ck.LocalCloud(directory, vcpus=2, quota=1000, runner="docker", registry=docker_machine.registry)
        # The server reads the registry's login once, when it starts.
        cloud.start()
    with cloud:
        yield Place(cloud, {"base_image": docker_machine.base_image})


@pytest.fixture(scope="session")
def docker_place(tmp_path_factory):
    with docker_cloud(tmp_path_factory.mktemp("docker")) as place:
        yield place


@pytest.fixture(scope="session", params=["process", "docker"])
def place(request):
    """Return the place where a map runs. A test with this fixture runs once on each runner of the embedded cloud."""
    if request.param == "docker":
        return request.getfixturevalue("docker_place")
    return Place(request.getfixturevalue("cloud"))


@pytest.fixture(scope="session")
def knot_on():
    """Return a function that creates a knot in a place.

    Calls with the same function and choices return the same knot, since its image and stack take seconds.
    """
    knots = {}

    def make(place, func, **choices):
        key = (id(place.cloud), func, tuple(sorted(choices.items())))
        if key not in knots:
            knots[key] = place.knot(f"test-{len(knots)}", func, **choices)
        return knots[key]

    return make


@pytest.fixture
def knot_of(place, knot_on):
    """Return a function that creates a knot for a function. The test runs once on each runner."""
    return lambda func, **choices: knot_on(place, func, **choices)


@pytest.fixture
def gate():
    """Yield a closed gate that holds jobs up until the test opens it."""
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def command_on(monkeypatch):
    """Return a function that takes a cloud, and returns one that runs ``cloudknot`` with words on this cloud."""

    def on(cloud):
        monkeypatch.setenv("CLOUDKNOT_CLOUD", "local")
        monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
        return lambda *words, **choices: CliRunner().invoke(main, list(map(str, words)), **choices)

    return on


@pytest.fixture
def process_knot_of(cloud, knot_on):
    """Return a function that creates a knot on the process runner, for behaviour that is the same on both runners."""
    return lambda func, **choices: knot_on(Place(cloud), func, **choices)
