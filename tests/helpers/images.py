"""Images of programs, for tests of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cloudknot.aws.images.image_store import Image
from cloudknot.image import docker_image
from cloudknot.image.docker_image import DockerImage
from cloudknot.image.render import image_of, render
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.program import Program


def described(files: Mapping[str, bytes], **choices: Any) -> Image:
    """Return `image_of` of a build context with a lock that needs no index."""
    return image_of(files, resolve=lock_of_lines, fetch=wheel_at, **choices)


def render_image(program: Program, *, platform: str = "linux/amd64", **choices: Any) -> Image:
    """Return the image of a program, with choices that `render` takes. Its lock needs no index."""
    return described(render(program, **choices), platform=platform)


def image_in(image: DockerImage, **choices: Any) -> Image:
    """Return `cloudknot.image.docker_image.image_in` with a lock that needs no index."""
    return docker_image.image_in(image, resolve=lock_of_lines, **choices)


def lock_of_lines(
    requirements: Sequence[str],
    target: InstallTarget,
    wheels: Sequence[LocalWheel] = (),
    *,
    refresh: bool = False,
    preferred: Collection[str] = (),
) -> Lock:
    """Return a lock with one made-up file for each requirement line."""
    return Lock(target, tuple(map(_package, sorted(requirements))))


def wheel_at(address: str, target: InstallTarget) -> LocalWheel:
    """Return a made-up wheel of the package at an address."""
    name = address.rpartition("/")[2].partition(".git")[0].partition("@")[0]
    return LocalWheel(name, "1", f"{name}-1-py3-none-any.whl", address.encode())


def _package(line: str) -> LockedPackage:
    name, _, version = line.partition("==")
    digest = hashlib.sha256(line.encode()).hexdigest()
    filename = f"{name}-{version or 1}-py3-none-any.whl"
    return LockedPackage(name, version or "1", filename, digest, f"https://files.pythonhosted.org/{filename}")
