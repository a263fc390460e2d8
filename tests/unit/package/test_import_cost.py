"""Importing costs nothing: no heavy library, no network, no files outside the package."""

import json
import os
import subprocess
import sys

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
        f"cloudknot.local.{part}" for part in ("admin", "cloud", "options", "state")
    }


def test_every_public_name_of_the_embedded_cloud_is_found():
    import cloudknot.local

    assert all(getattr(cloudknot.local, name).__name__ == name for name in cloudknot.local.__all__)
    assert dir(cloudknot.local) == cloudknot.local.__all__
