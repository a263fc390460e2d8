"""Fixtures for tests of the embedded cloud: one running cloud and a client of its Batch."""

import pytest

from cloudknot.local import LocalCloud
from cloudknot.local.runners.images.environments import ENVIRONMENTS_VARIABLE
from tests.helpers.batch import Client


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded") / "local"


@pytest.fixture(scope="session")
def embedded(directory):
    # The server inherits both variables. `test_jobs` checks that no job gets them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_USER", "leaked")
        patch.setenv("PYTHONPATH", "/somewhere/of/the/user")
        cloud = LocalCloud(directory, vcpus=2)
        cloud.start()
    with cloud:
        yield cloud


@pytest.fixture(scope="session")
def client(embedded):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENVIRONMENTS_VARIABLE, raising=False)
        return Client(embedded)


@pytest.fixture(autouse=True)
def separate_environments(request, monkeypatch):
    """Install environments in the cloud's own directory. The digests of `tests.helpers.batch.Image` are invented."""
    if request.path.stem != "test_cloudformation":
        monkeypatch.delenv(ENVIRONMENTS_VARIABLE, raising=False)
