"""Importing costs nothing: no heavy library, no network, no files outside the package."""

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import sys, json
events = []
sys.addaudithook(lambda name, args: events.append((name, repr(args)[:300])))
import {module}
heavy = sorted({{name.partition(".")[0] for name in sys.modules}} & {heavy!r})
sockets = [event for event in events if event[0].startswith("socket.")]
modes = ("'w", "'a", "'x", "'r+")
writes = [event for event in events if event[0] == "open" and any(mode in event[1] for mode in modes)]
print(json.dumps([heavy, sockets, writes]))
"""
HEAVY = {
    "boto3",
    "botocore",
    "docker",
    "filelock",
    "moto",
    "rich",
    "pipreqs",
    "cloudpickle",
    "click",
    "flask",
    "numpy",
    "requests",
}


def probe(module, heavy):
    code = PROBE.format(module=module, heavy=heavy)
    run = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(run.stdout)


def test_import_loads_nothing_heavy_and_touches_nothing():
    assert probe("cloudknot", HEAVY) == [[], [], []]


def test_the_command_loads_nothing_heavy_but_click():
    assert probe("cloudknot.cli.main", HEAVY - {"click"}) == [[], [], []]


SLOW = {
    *("asyncio", "email", "http", "importlib.metadata", "multiprocessing", "ssl", "statistics", "subprocess"),
    *("tarfile", "tempfile"),
}
"""Modules of the standard library that take long to import, and that the client needs late or not at all."""


def loaded_by(code):
    """Return the names of the modules that Python has loaded after a statement."""
    show = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=60, check=True)
    return set(run.stdout.split())


def ours(modules):
    return {name for name in modules if name.partition(".")[0] == "cloudknot"}


def test_import_loads_no_other_module_of_the_package():
    assert ours(loaded_by("import cloudknot")) == {"cloudknot"}


def test_import_loads_hardly_more_than_concurrent_futures():
    more = loaded_by("import cloudknot") - loaded_by("import concurrent.futures.thread")
    assert {name for name in more if name.partition(".")[0] not in ("_typing", "typing")} == {"cloudknot"}


@pytest.mark.parametrize("name", ["BatchJob", "Cloud", "DockerImage", "DockerRepo", "Knot", "MapFuture", "Pars"])
def test_a_class_loads_nothing_slow_and_nothing_of_the_embedded_cloud(name):
    loaded = loaded_by(f"import cloudknot; cloudknot.{name}")
    assert {module.partition(".")[0] for module in loaded} & HEAVY == set()
    assert {module for module in ours(loaded) if module.startswith("cloudknot.local")} == set()
    assert loaded & SLOW == set()


@pytest.mark.parametrize("name", ["set_region", "get_region", "set_profile", "list_profiles", "refresh_clients"])
def test_a_setting_loads_the_settings_alone(name):
    places = ("cloudknot.errors", "cloudknot.options", "cloudknot.aws.settings")
    others = ours(loaded_by(f"import cloudknot; cloudknot.{name}")) - {"cloudknot", "cloudknot.aws"}
    assert {module for module in others if not module.startswith(places)} == set()


def test_an_error_loads_the_errors_alone():
    assert ours(loaded_by("import cloudknot; cloudknot.CloudError")) == {"cloudknot", "cloudknot.errors"}


def test_the_probe_would_notice():
    heavy, _, _ = probe("boto3", HEAVY)
    assert {"boto3", "botocore"} <= set(heavy)


def test_the_worker_is_importable_without_the_rest():
    code = "import sys, cloudknot.worker.wire.keys; print(sorted(m for m in sys.modules if m.startswith('boto')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


LOADED = 'print(sorted(name for name in sys.modules if name.startswith("cloudknot.local")))'
AWS_SESSION = f"""
import sys
import cloudknot as ck
from cloudknot.aws.cloud import choose_cloud
cloud = choose_cloud("aws")
cloud.client("sts"), cloud.client("batch"), cloud.image_store
ck.Knot, ck.Pars, ck.DockerImage, ck.DockerRepo, ck.BatchJob, ck.MapFuture, ck.list_knots, ck.set_region
import cloudknot.cli.main, cloudknot.cli.knots
{LOADED}
"""


def loaded(code):
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-B", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return json.loads(run.stdout.replace("'", '"'))


def test_a_session_on_aws_loads_no_module_of_the_embedded_cloud():
    assert loaded(AWS_SESSION) == []


def test_the_embedded_cloud_loads_its_parts_when_they_are_asked_for():
    assert loaded(f"import sys, cloudknot.local; {LOADED}") == ["cloudknot.local"]
    parts = loaded(f"import sys, cloudknot.local; cloudknot.local.LocalCloud; {LOADED}")
    assert set(parts) == {"cloudknot.local"} | {
        f"cloudknot.local.{part}" for part in ("admin", "cloud", "options", "runners", "runners.choice", "state")
    }


def test_every_public_name_of_the_embedded_cloud_is_found():
    import cloudknot.local

    assert all(getattr(cloudknot.local, name).__name__ == name for name in cloudknot.local.__all__)
    assert dir(cloudknot.local) == cloudknot.local.__all__
