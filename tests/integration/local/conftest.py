"""One embedded cloud for the tests here, with a client of its Batch."""

import pytest

from cloudknot.local import LocalCloud
from cloudknot.local.runners.images import ENVIRONMENTS_VARIABLE
from tests.helpers.batch import Client


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded") / "local"


@pytest.fixture(scope="session")
def embedded(directory):
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
def environments_of_its_own(request, monkeypatch):
    """The digests of `tests.helpers.batch.Image` are made up: their environments are not for other tests."""
    if request.path.stem != "test_cloudformation":
        monkeypatch.delenv(ENVIRONMENTS_VARIABLE, raising=False)
