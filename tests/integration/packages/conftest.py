"""Fixtures for locks: an empty cache, and an index on this machine in place of PyPI."""

import sys

import pytest

from tests.integration.packages.index import package_index


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


@pytest.fixture(params=["uv", "pip"])
def tool(request, monkeypatch, tmp_path):
    """Return the name of the tool that resolves and installs. A test with this fixture runs once with each."""
    if request.param == "pip":
        # As on a machine without uv.
        monkeypatch.setitem(sys.modules, "uv", None)
        monkeypatch.setenv("PATH", str(tmp_path))
    return request.param


@pytest.fixture
def index(monkeypatch):
    """Yield an empty index that uv and pip ask in place of PyPI."""
    with package_index() as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index
