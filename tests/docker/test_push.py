"""Knots build and push only the system of an image, once, and repeat broken pushes. Relays record all requests."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from urllib.parse import parse_qs

import pytest

import cloudknot as ck
from tests.helpers.paths import ROOT
from tests.helpers.relay import Relay
from tests.helpers.waiting import LONG

MB = 1_000_000
SYSTEM = [("build", "system"), ("push", "system")]


@pytest.fixture(scope="module")
def registry_relay(machine):
    """The relay between all clients and the registry."""
    host, port = machine.registry.split(":")
    with Relay((host, int(port))) as relay:
        yield relay


@pytest.fixture(scope="module")
def engine_relay(tmp_path_factory):
    """The relay between this process and the engine. The embedded cloud has its own connection."""
    with Relay(
        os.environ["DOCKER_HOST"].removeprefix("unix://"), tmp_path_factory.mktemp("engine") / "socket"
    ) as relay:
        yield relay


@pytest.fixture(scope="module")
def relayed_cloud(machine, registry_relay, engine_relay, tmp_path_factory):
    """An embedded cloud that reaches its registry through the relay."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.login.items():
            patch.setenv(name, value)
        directory = tmp_path_factory.mktemp("cloud")
        with ck.LocalCloud(directory, vcpus=2, runner="docker", registry=registry_relay.address) as cloud:
            for name in machine.login:
                patch.delenv(name)
            patch.setenv("DOCKER_HOST", f"unix://{engine_relay.address}")
            yield cloud


@pytest.fixture
def choices(machine, relayed_cloud):
    """Choices for a knot with a system that nobody has built yet."""
    new = uuid.uuid4()
    choices = {"base_image": machine.base_image, "dockerfile_lines": f"ENV NEW={new}", "repo_name": f"pushed-{new}"}
    yield {"cloud": relayed_cloud, **choices}
    relayed_cloud.repository(choices["repo_name"]).clobber()


@pytest.fixture(autouse=True)
def fresh_counts(engine_relay, registry_relay):
    """Start each test with empty records."""
    engine_relay.forget()
    registry_relay.forget()


def received_requests(engine_relay):
    """Return the builds, pulls and pushes that the engine received since the last call, in order."""
    received = []
    for method, path in engine_relay.requests:
        match = re.search(r"/(build|push|images/create)\?(.*)", path)
        if match and method == "POST":
            query = parse_qs(match[2])
            (tag,) = query.get("t") or query["tag"]
            received.append((match[1], tag.rpartition(":")[2].partition("-")[0]))
    engine_relay.forget()
    return received


def uploads(registry_relay):
    """Count the layers and image descriptions that were uploaded."""
    return sum(method == "POST" and "/blobs/uploads/" in path for method, path in registry_relay.requests)


def test_knot_builds_only_system_and_assembles_the_rest(engine_relay, registry_relay, choices):
    def double(x):
        return 2 * x

    def triple(x):
        return 3 * x

    first = ck.Knot(name="first", func=double, **choices)
    assert received_requests(engine_relay) == SYSTEM
    assert registry_relay.sent > 10 * MB

    registry_relay.forget()
    second = ck.Knot(name="second", func=lambda x: x + 1, **choices)
    assert received_requests(engine_relay) == []
    # Two uploads: the layer with the program, and the description of the image.
    assert (uploads(registry_relay), registry_relay.sent < 100_000) == (2, True)

    registry_relay.forget()
    edited = ck.Knot(name="first", func=triple, **choices)
    assert received_requests(engine_relay) == []
    assert (uploads(registry_relay), registry_relay.sent < 100_000) == (2, True)

    registry_relay.forget()
    again = ck.Knot(name="first", func=triple, **choices)
    assert engine_relay.requests == []
    assert uploads(registry_relay) == 0
    assert {method for method, _ in registry_relay.requests} == {"GET"}
    knots = first, second, edited, again
    assert [knot.map([5]).result(LONG) for knot in knots] == [[10], [6], [15], [15]]


def command_lines():
    """Yield the command line of every process on this machine."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_text(errors="replace")


CREATE_KNOT = """
import sys
import cloudknot as ck

directory, base_image, repository, line = sys.argv[1:]
choices = {"base_image": base_image, "repo_name": repository, "dockerfile_lines": line}
ck.Knot(name="broken", func=abs, cloud=ck.LocalCloud(directory), **choices)
"""


def test_interrupted_push_is_repeated_without_building_again(
    engine_relay, registry_relay, machine, relayed_cloud, choices
):
    # Random bytes, since the registry compresses layers: the layer stays larger than the relay's limit.
    line = f"RUN head -c {12 * MB} /dev/urandom > /data # {uuid.uuid4()}"
    names = [str(relayed_cloud.directory), choices["base_image"], choices["repo_name"]]
    command = [sys.executable, "-c", CREATE_KNOT, *names, line]

    registry_relay.hold_after(5 * MB)
    client = subprocess.Popen(command, cwd=ROOT)
    assert registry_relay.held.wait(LONG)
    assert not [line for line in command_lines() if machine.password in line]
    client.send_signal(signal.SIGKILL)
    client.wait(LONG)
    assert received_requests(engine_relay) == SYSTEM
    registry_relay.cut(refused=b"User-Agent: docker/")

    def create_knot():
        return ck.Knot(name="broken", func=abs, **{**choices, "dockerfile_lines": line})

    with pytest.raises(ck.ImageError, match=r"Pushing .*system-.* failed: .*try again"):
        create_knot()
    assert received_requests(engine_relay) == SYSTEM[1:]

    # When only the connection breaks, the engine repeats the layer by itself.
    registry_relay.mend()
    registry_relay.hold_after(5 * MB)
    threading.Thread(
        target=lambda: registry_relay.held.wait(LONG) and (registry_relay.cut(), registry_relay.mend()), daemon=True
    ).start()
    assert create_knot().map([-1]).result(LONG) == [1]
    assert registry_relay.held.is_set()
    assert received_requests(engine_relay) == SYSTEM[1:]
