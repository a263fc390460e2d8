"""Importing costs nothing: no heavy library, no network, no files outside the package."""

import json
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
