"""Fixtures for the tests of the object store."""

import pytest

from tests.unit.local.s3.stores import Stores


@pytest.fixture
def stores(tmp_path):
    """A directory whose object store can be opened again. It has the bucket ``bucket``."""
    opened = Stores(tmp_path)
    opened.store.create_bucket("bucket", "owner")
    yield opened
    opened.close()


@pytest.fixture
def store(stores):
    """An object store with the bucket ``bucket``."""
    return stores.store
