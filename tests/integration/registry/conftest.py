"""Fixtures for the tests of the registry client: a registry that fails as it is asked to, and the machine's own."""

import contextlib
import io
import uuid

import pytest

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Blob, Registry
from cloudknot.aws.images.registry.manifests import digest_of
from tests.docker import machine as find_machine
from tests.integration.registry.server import PASSWORD, USER, RegistryServer


def client(address, *, username="", password="", **options):
    """Return a client of a registry."""
    return Registry(RegistryLogin(address, username, password), **options)


def blob_of(content):
    return Blob(digest_of(content), len(content), lambda: io.BytesIO(content))


@pytest.fixture
def start():
    """Return a function that starts a `RegistryServer`, which ends with the test, and returns it with a client."""
    with contextlib.ExitStack() as stack:

        def make(kind="plain", login="", keep=True, **options):
            server = stack.enter_context(RegistryServer(kind, login, keep))
            named = {"username": USER, "password": PASSWORD} if login else {}
            return server, stack.enter_context(client(server.address, **{**named, **options}))

        yield make


@pytest.fixture
def machine():
    return find_machine()


@pytest.fixture
def real(machine):
    """Return a client of the machine's registry, and the name of a new repository."""
    with client(machine.registry, username=machine.username, password=machine.password) as registry:
        yield registry, f"registry-client/{uuid.uuid4().hex}"
