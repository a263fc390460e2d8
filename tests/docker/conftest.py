"""Fixtures for tests on Docker: one embedded cloud with the docker runner, and the engine that it uses."""

import docker
import pytest

import cloudknot as ck
from tests.docker import machine as find_machine


@pytest.fixture(scope="session")
def machine():
    """The machine with engine, registry and base image."""
    return find_machine()


@pytest.fixture(scope="session")
def engine(machine):
    """The low-level client of the engine."""
    client = docker.from_env()
    yield client.api
    client.close()


@pytest.fixture
def login(machine, monkeypatch):
    """The registry's login in the environment, for a cloud that the test starts."""
    for name, value in machine.login.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def cloud(machine, tmp_path_factory):
    """A running embedded cloud that runs jobs as containers, with two vCPUs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.login.items():
            patch.setenv(name, value)
        cloud = ck.LocalCloud(
            tmp_path_factory.mktemp("cloud"), vcpus=2, quota=1000, runner="docker", registry=machine.registry
        )
        cloud.start()
    with cloud:
        yield cloud
