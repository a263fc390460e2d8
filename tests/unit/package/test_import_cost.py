"""Importing cloudknot is cheap: it loads no heavy library, opens no connection and writes no file.

Each case is a Python process of its own, because this one has loaded everything already.
"""

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
    """Return the heavy libraries that an import loads, its socket events, and the files that it writes."""
    code = PROBE.format(module=module, heavy=heavy)
    run = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(run.stdout)


def test_package_import_loads_no_heavy_library_and_neither_connects_nor_writes():
    assert probe("cloudknot", HEAVY) == [[], [], []]


def test_command_import_loads_no_heavy_library_except_click():
    assert probe("cloudknot.cli.main", HEAVY - {"click"}) == [[], [], []]


SLOW = {
    *("asyncio", "email", "http", "importlib.metadata", "multiprocessing", "ssl", "statistics", "subprocess"),
    *("tarfile", "tempfile"),
}
"""Modules of the standard library that take long to import. The client needs them late or never."""


def loaded_by(code):
    """Return the names of all modules that a new Python process has loaded after a statement."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(run.stdout.split())


def own_modules(modules):
    """Return the modules of cloudknot among others."""
    return {name for name in modules if name.partition(".")[0] == "cloudknot"}


def test_package_import_loads_no_submodule():
    assert own_modules(loaded_by("import cloudknot")) == {"cloudknot"}


def test_package_import_loads_only_concurrent_futures_and_typing():
    extra = loaded_by("import cloudknot") - loaded_by("import concurrent.futures.thread")
    assert {name for name in extra if name.partition(".")[0] not in ("_typing", "typing")} == {"cloudknot"}


@pytest.mark.parametrize("name", ["BatchJob", "Cloud", "DockerImage", "DockerRepo", "Knot", "MapFuture", "Pars"])
def test_public_class_loads_neither_slow_modules_nor_embedded_cloud(name):
    loaded = loaded_by(f"import cloudknot; cloudknot.{name}")
    assert {module.partition(".")[0] for module in loaded} & HEAVY == set()
    assert {module for module in own_modules(loaded) if module.startswith("cloudknot.local")} == set()
    assert loaded & SLOW == set()


@pytest.mark.parametrize("name", ["set_region", "get_region", "set_profile", "list_profiles", "refresh_clients"])
def test_settings_function_loads_only_settings_modules(name):
    places = ("cloudknot.errors", "cloudknot.options", "cloudknot.aws.settings", "cloudknot.aws.sdk.")
    others = own_modules(loaded_by(f"import cloudknot; cloudknot.{name}")) - {
        *("cloudknot", "cloudknot.aws", "cloudknot.aws.sdk")
    }
    assert {module for module in others if not module.startswith(places)} == set()


def test_error_class_loads_only_errors_module():
    assert own_modules(loaded_by("import cloudknot; cloudknot.CloudError")) == {"cloudknot", "cloudknot.errors"}


def test_import_probe_detects_heavy_library():
    heavy, _, _ = probe("boto3", HEAVY)
    assert {"boto3", "botocore"} <= set(heavy)


def test_wire_keys_import_loads_no_boto3():
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


def embedded_cloud_modules(code):
    """Return the list that a statement prints in a new Python process with AWS credentials."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-B", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return json.loads(run.stdout.replace("'", '"'))


def test_session_on_aws_loads_no_module_of_embedded_cloud():
    assert embedded_cloud_modules(AWS_SESSION) == []


def test_clients_load_botocore_without_boto3():
    code = AWS_SESSION.replace(LOADED, 'print(sorted({"boto3", "botocore", "s3transfer"}.intersection(sys.modules)))')
    assert embedded_cloud_modules(code.replace('"sts"', '"s3"')) == ["botocore"]


def test_embedded_cloud_package_loads_its_modules_on_first_use():
    assert embedded_cloud_modules(f"import sys, cloudknot.local; {LOADED}") == ["cloudknot.local"]
    parts = embedded_cloud_modules(f"import sys, cloudknot.local; cloudknot.local.LocalCloud; {LOADED}")
    assert set(parts) == {"cloudknot.local"} | {
        f"cloudknot.local.{part}"
        for part in (
            *("admin", "options", "runners", "runners.choice"),
            *("directory", "directory.claim", "directory.deletion", "directory.files", "directory.full_disk"),
            *("directory.locks", "directory.refused_writes", "directory.state"),
            *("session", "session.cloud", "session.connection", "session.launch"),
        )
    }


def test_embedded_cloud_package_provides_every_public_name():
    import cloudknot.local

    assert all(getattr(cloudknot.local, name).__name__ == name for name in cloudknot.local.__all__)
    assert dir(cloudknot.local) == cloudknot.local.__all__
