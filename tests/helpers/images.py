"""Images of programs, for tests of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cloudknot.aws.images.image_store import Image
from cloudknot.image.render import image_of, render
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.program import Program


def render_image(program: Program, *, platform: str = "linux/amd64", **choices: Any) -> Image:
    """Return the image of a program, with choices that `render` takes. Its lock needs no index."""
    return image_of(render(program, **choices), platform, resolve=lock_of_lines)


def lock_of_lines(
    requirements: Sequence[str], target: InstallTarget, wheels: Sequence[LocalWheel] = (), *, refresh: bool = False
) -> Lock:
    """Return a lock with one made-up file for each requirement line."""
    return Lock(target, tuple(map(_package, sorted(requirements))))


def _package(line: str) -> LockedPackage:
    name, _, version = line.partition("==")
    digest = hashlib.sha256(line.encode()).hexdigest()
    filename = f"{name}-{version or 1}-py3-none-any.whl"
    return LockedPackage(name, version or "1", filename, digest, f"https://files.example/{filename}")
