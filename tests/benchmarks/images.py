"""Measure images that are assembled in a registry beside images that a Docker engine builds, in one run.

    .ci/docker-setup exec python -m tests.benchmarks.images

Both begin with an empty repository, and with the base image in another registry or in the engine. All requests to the
user's registry pass a relay, which counts them and their bytes.
"""

import json
import os
import tempfile
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Registry
from cloudknot.image.assembly.assemble import assemble
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder
from tests.docker import machine as find_machine
from tests.helpers.functions import cube, square
from tests.helpers.relay import Relay

BASE = "cloudknot-benchmark/base"


@dataclass
class Place:
    """A repository behind a relay, as a builder needs it."""

    name: str
    registry_login: RegistryLogin

    def login(self):
        return self.registry_login

    def has_tag(self, tag):
        with Registry(self.registry_login) as registry:
            return registry.manifest(self.name, tag) is not None


def assembled(image, place, uri):
    assemble(image, place, uri)


def built(image, place, uri):
    with DockerBuilder() as builder:
        builder.publish(image, place, uri)


def push_base(machine):
    """Push the base image to a repository of its own, and return its name."""
    name = f"{machine.registry}/{BASE}:1"
    with DockerBuilder() as builder:
        builder.tag(machine.base_image, name)
        builder.push(name, RegistryLogin(machine.registry, machine.username, machine.password))
    return name


def image_of(func, requirements, base, line):
    lines = [line] if line else []
    return image_in(DockerImage(func=func, requirements=requirements, base_image=base, dockerfile_lines=lines))


def steps(publish, relay, machine, base):
    """Yield the name, seconds, requests and bytes of each step."""
    place = Place(
        f"benchmark-{uuid.uuid4().hex[:8]}", RegistryLogin(relay.address, machine.username, machine.password)
    )
    # The engine's own cache must not know the image.
    line = f"ENV NEW={uuid.uuid4()}" if publish is built else ""
    for name, func, requirements in (
        ("first image with numpy", square, ["numpy"]),
        ("edited function", cube, ["numpy"]),
        ("the same again", cube, ["numpy"]),
        ("one more package: attrs", cube, ["numpy", "attrs"]),
    ):
        image = image_of(func, requirements, base, line)
        relay.forget()
        began = time.perf_counter()
        if not place.has_tag(image.tag):
            publish(image, place, f"{relay.address}/{place.name}:{image.tag}")
        yield name, time.perf_counter() - began, len(relay.requests), relay.sent


def main():
    machine = find_machine()
    host, port = machine.registry.split(":")
    with tempfile.TemporaryDirectory() as folder, Relay((host, int(port))) as relay:
        secret = b64encode(f"{machine.username}:{machine.password}".encode()).decode()
        Path(folder, "config.json").write_text(json.dumps({"auths": {machine.registry: {"auth": secret}}}))
        os.environ |= {"DOCKER_CONFIG": folder, "XDG_CACHE_HOME": folder}
        base = push_base(machine)
        print(
            f"load {os.getloadavg()[0]:.1f}\n\n| image | step | seconds | requests | MB sent |\n|---|---|---|---|---|"
        )
        for title, publish in (("engine", built), ("assembled", assembled)):
            for name, seconds, requests, sent in steps(publish, relay, machine, base):
                print(f"| {title} | {name} | {seconds:.2f} | {requests} | {sent / 1e6:.2f} |")


if __name__ == "__main__":
    main()
