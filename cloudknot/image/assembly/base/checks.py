"""Check that a base image fits its program: architecture, Python and C library. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError
from cloudknot.image.engine import build_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloudknot.aws.images.image_store import Image
    from cloudknot.image.assembly.base.facts import BaseFacts

# The older names of three glibc versions (PEP 600).
_LEGACY = {"manylinux1": "manylinux_2_5", "manylinux2010": "manylinux_2_12", "manylinux2014": "manylinux_2_17"}


def check_architecture(platform: str, image: Image) -> None:
    """Raise `ImageError` for a base image of another platform than the instance types."""
    if platform != image.platform:
        raise build_errors.wrong_architecture(platform, image)


def check_lock(image: Image) -> None:
    """Raise `ImageError` for a lock that was made offline, and so does not name the files of its packages."""
    copies = [package.name for package in image.lock.packages if package.is_copy]
    if copies:
        raise ImageError(
            f"The files of {', '.join(copies)} cannot be found without a package index. The index did not answer when "
            "the requirements were resolved. Check your network, and try again with no_image_cache=True."
        )


def check_facts(facts: BaseFacts, image: Image) -> None:
    """Raise `ImageError` unless the base image has the program's Python, and a C library for all packages."""
    if facts.version != image.python:
        raise build_errors.wrong_python(facts.version, image)
    names = [package.filename for package in image.lock.packages if package.is_wheel]
    names += [wheel.filename for wheel in image.wheels]
    unfit = [name for name in names if not _fits(name, facts.libc)]
    if unfit:
        raise ImageError(
            f"The package {unfit[0]} does not run on the base image {image.base_image}, which has "
            f"{_readable(facts.libc)}. Pass as base_image= an image with a newer C library, such as "
            f"'python:{image.python}-slim'."
        )


def _readable(libc: str) -> str:
    """Return ``"glibc 2.17"`` for ``"manylinux_2_17"``."""
    kind, major, minor = libc.split("_")
    return f"{'glibc' if kind == 'manylinux' else kind.removesuffix('linux')} {major}.{minor}"


def _fits(filename: str, libc: str) -> bool:
    """Return whether a wheel runs with a C library. Without knowledge of the library, every wheel does."""
    tags = [_LEGACY.get(tag, tag) for tag in _platform_tags(filename)]
    linux = [parts for tag in tags if (parts := _version(tag))]
    own = _version(libc)
    if not linux or own is None:
        return True
    return any(kind == own[0] and version <= own[1] for kind, version in linux)


def _platform_tags(filename: str) -> Iterator[str]:
    """Yield the platforms in a wheel's name without their architecture."""
    for tag in filename.removesuffix(".whl").rpartition("-")[2].split("."):
        yield re.sub(r"_(x86_64|aarch64)$", "", tag)


def _version(tag: str) -> tuple[str, tuple[int, int]] | None:
    match = re.fullmatch(r"(manylinux|musllinux)_(\d+)_(\d+)", tag)
    return (match[1], (int(match[2]), int(match[3]))) if match else None
