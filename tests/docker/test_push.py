"""What engine and registry are asked by knots, and pushes that break off. Counted on the wire to each of them."""

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
ENVIRONMENT = [("build", "environment"), ("push", "environment")]
PROGRAM = [("build", "program"), ("push", "program")]


@pytest.fixture(scope="module")
def registry(machine):
    host, port = machine.registry.split(":")
    with Relay((host, int(port))) as relay:
        yield relay


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    """The wire to the engine of this process; the cloud has its own."""
    with Relay(os.environ["DOCKER_HOST"].removeprefix("unix://"), tmp_path_factory.mktemp("wire") / "socket") as relay:
        yield relay


@pytest.fixture(scope="module")
def pushed_cloud(machine, registry, wire, tmp_path_factory):
    """A cloud whose registry is at the other end of a wire."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.login.items():
            patch.setenv(name, value)
        directory = tmp_path_factory.mktemp("cloud")
        with ck.LocalCloud(directory, vcpus=2, runner="docker", registry=registry.address) as cloud:
            for name in machine.login:
                patch.delenv(name)
            patch.setenv("DOCKER_HOST", f"unix://{wire.address}")
            yield cloud


@pytest.fixture
def choices(machine, pushed_cloud):
    """An environment that nobody has made yet."""
    return {"cloud": pushed_cloud, "base_image": machine.base_image, "dockerfile_lines": f"ENV NEW={uuid.uuid4()}"}


@pytest.fixture(autouse=True)
def counted(wire, registry):
    wire.forget()
    registry.forget()


def asked(wire):
    """What an engine was asked to build, pull and push, in order, since this was last asked."""
    found = []
    for method, path in wire.requests:
        what = re.search(r"/(build|push|images/create)\?(.*)", path)
        if what and method == "POST":
            query = parse_qs(what[2])
            (tag,) = query.get("t") or query["tag"]
            found.append((what[1], "environment" if "env-" in tag else "program"))
    wire.forget()
    return found


def uploads(registry):
    return sum(method == "POST" and "/blobs/uploads/" in path for method, path in registry.requests)


def test_only_what_changed_is_built_and_sent(wire, registry, choices):
    def double(x):
        return 2 * x

    def triple(x):
        return 3 * x

    first = ck.Knot(name="first", func=double, **choices)
    assert asked(wire) == ENVIRONMENT + PROGRAM
    everything = registry.sent
    assert everything > 10 * MB

    registry.forget()
    second = ck.Knot(name="second", func=lambda x: x + 1, **choices)
    assert asked(wire) == PROGRAM
    # The program's layer and the image's description.
    assert (uploads(registry), registry.sent < 100_000) == (2, True)

    registry.forget()
    edited = ck.Knot(name="first", func=triple, **choices)
    assert asked(wire) == PROGRAM
    assert (uploads(registry), registry.sent < 100_000) == (2, True)

    registry.forget()
    again = ck.Knot(name="first", func=triple, **choices)
    assert wire.requests == []
    assert uploads(registry) == 0
    assert {method for method, _ in registry.requests} == {"GET"}
    knots = first, second, edited, again
    assert [knot.map([5]).result(LONG) for knot in knots] == [[10], [6], [15], [15]]


def command_lines():
    """Of all processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield file.read_text(errors="replace")


MAKE = """
import sys
import cloudknot as ck

directory, base_image, line = sys.argv[1:]
ck.Knot(name="broken", func=abs, base_image=base_image, dockerfile_lines=line, cloud=ck.LocalCloud(directory))
"""


def test_a_push_that_broke_off_is_just_repeated(wire, registry, machine, pushed_cloud, choices):
    line = f"RUN head -c {12 * MB} /dev/urandom > /data # {uuid.uuid4()}"
    command = [sys.executable, "-c", MAKE, str(pushed_cloud.directory), choices["base_image"], line]

    registry.hold_after(5 * MB)
    client = subprocess.Popen(command, cwd=ROOT)
    assert registry.held.wait(LONG)
    assert not [line for line in command_lines() if machine.password in line]
    client.send_signal(signal.SIGKILL)
    client.wait(LONG)
    assert asked(wire) == ENVIRONMENT
    registry.cut(refused=b"User-Agent: docker/")

    def make():
        return ck.Knot(name="broken", func=abs, **{**choices, "dockerfile_lines": line})

    with pytest.raises(ck.ImageError, match=r"Pushing .*env-.* failed: .*call again"):
        make()
    assert asked(wire) == ENVIRONMENT[1:]

    # An engine tries a layer again by itself when only the connection broke.
    registry.mend()
    registry.hold_after(5 * MB)
    threading.Thread(
        target=lambda: registry.held.wait(LONG) and (registry.cut(), registry.mend()), daemon=True
    ).start()
    assert make().map([-1]).result(LONG) == [1]
    assert registry.held.is_set()
    assert asked(wire) == ENVIRONMENT[1:] + PROGRAM
