"""Every test is kept away from the developer's own AWS files, settings and caches."""

import os
from pathlib import Path

import pytest

KEPT = ("AWS_CA_BUNDLE", "CLOUDKNOT_TEST_")
LONG = (
    "test_timeouts",
    "test_map",
    "test_clobber",
    "test_dependencies",
    "test_reuse",
    "test_stack",
    "test_interrupted",
)


def pytest_collection_modifyitems(items):
    """Begin with the modules that take longest, so that none of them runs alone at the end."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def isolated_home(tmp_path_factory):
    """A home directory of its own, and no AWS or cloudknot variables. pip keeps its cache, which holds no settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "CLOUDKNOT_", "XDG_")) and not name.startswith(KEPT):
                patch.delenv(name)
        patch.setenv("PIP_CACHE_DIR", os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")))
        patch.setenv("HOME", str(home))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield home
