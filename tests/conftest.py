"""Isolation of every test from the developer's AWS files and settings, and the selection for `make test`."""

import json
import os
import re
import signal
import threading
import weakref
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

KEPT_VARIABLES = ("AWS_CA_BUNDLE", "CLOUDKNOT_TEST_")
"""Prefixes of variables that `isolated_home` keeps: a proxy's certificates, and switches for the tests."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudknot-tests"
"""Installed environments by their digests. Pytest workers and later test runs share them: an install takes minutes."""
TIERS = ("unit", "integration", "faults", "docker")
FIRST = (
    "test_notebooks",
    "test_messages",
    "test_timeouts",
    "test_local_packages",
    "test_docker_runner",
    "test_push",
    "test_customise",
    "test_sigkill_at_random_moments_under_load_loses_nothing_acknowledged[100]",
    "test_kills_at_random_moments_lose_no_acknowledged_job_and_run_no_attempt_twice[100]",
)
"""Modules and tests that take the longest. They start first, so that none of them runs alone at the end."""
DOCKER = {"docker_place", "in_containers", "machine"}
"""Fixtures that need a Docker engine. The fixture ``place`` needs one only for its parameter "docker"."""

# A test can be slow on a busy machine, and its function-scoped fixtures do not change between examples.
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("test", derandomize=True, max_examples=30, **QUIET)
# Fresh ones in each run, so that many runs together try thousands.
settings.register_profile("more", max_examples=100, print_blob=True, **QUIET)
settings.load_profile("test")


def pytest_configure(config):
    """Let Ctrl-C end the programs that tests start: a shell ignores SIGINT in background processes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Mark each test with its tier, and with ``more`` when only `make test-more` runs it."""
    for item in items:
        tier = _tier(item)
        item.add_marker(tier)
        if is_hypothesis_test(item.obj):
            item.add_marker("properties")
        kept_back = tier == "faults" or (tier == "docker" and not item.get_closest_marker("contract"))
        if kept_back or item.get_closest_marker("large") or item.get_closest_marker("examples"):
            item.add_marker("more")
    items.sort(key=lambda item: ({item.path.stem, item.name}.isdisjoint(FIRST), -TIERS.index(_tier(item))))


def _tier(item):
    on_docker = getattr(item, "callspec", None) and item.callspec.params.get("place") == "docker"
    if on_docker or (not DOCKER.isdisjoint(item.fixturenames) and "place" not in item.fixturenames):
        return "docker"
    return item.path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(scope="session", autouse=True)
def isolated_home(tmp_path_factory):
    """Set an empty home directory and remove AWS and cloudknot variables. pip and uv keep caches, without settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "CLOUDKNOT_", "XDG_")) and not name.startswith(KEPT_VARIABLES):
                patch.delenv(name)
        patch.setenv("PIP_CACHE_DIR", os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")))
        patch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")))
        patch.setenv("CLOUDKNOT_LOCAL_ENVIRONMENTS", str(CACHE / "environments"))
        patch.setenv("HOME", str(home))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield home


@pytest.fixture(autouse=True)
def own_logs(caplog):
    """Keep records of collectors from earlier tests out of `caplog`. Their maps may go on, and log at any moment."""
    # Not their numbers: a new thread may have the number of one that has ended.
    earlier = weakref.WeakSet(thread for thread in threading.enumerate() if thread.name.startswith("cloudknot-"))

    def is_own(record):
        return threading.current_thread() not in earlier

    caplog.handler.addFilter(is_own)
    yield
    caplog.handler.removeFilter(is_own)


@pytest.fixture(scope="session")
def template_types():
    """Return the types of all resources in the templates for knots and Pars."""
    from cloudknot.deploy.cloudformation import template

    return set(re.findall(r"Type: (AWS::\w+::\w+)", template.load("knot") + template.load("pars")))


@pytest.fixture(scope="session")
def handlers(template_types):
    """Return the permissions that CloudFormation's resource handlers need, by type (from its registry's schemas)."""
    import cfnlint

    permissions = {}
    for path in (Path(cfnlint.__file__).parent / "data" / "schemas" / "resources").glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        if schema.get("typeName") in template_types and "handlers" in schema:
            permissions[schema["typeName"]] = schema["handlers"]
    return permissions
