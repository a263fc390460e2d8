"""Check that a wheel made on this machine can run on the machines of the jobs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping

from cloudknot.errors import ImageError
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.target import ARCHITECTURES, InstallTarget
from cloudknot.program.packages.wheels.archive import WheelFile, read_wheel

# The names of symbol versions in a library that is linked with glibc.
_GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)(?=[\0.])")
_LIBC = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)")


def check_fit(wheel: LocalWheel, origin: str, target: InstallTarget) -> None:
    """Raise `ImageError` unless a wheel fits the machines and the Python of the jobs.

    Parameters
    ----------
    wheel : LocalWheel
    origin : str
        The folder or address that it came from, for the message.
    target : InstallTarget
    """
    if wheel.filename.endswith("-none-any.whl"):
        return
    needed = ", ".join(sorted({str(tag) for tag in _tags_of(wheel)}))
    if not _tags_of(wheel) & _supported(target):
        machines = f"{target.platform or sys.platform} with Python {target.python}"
        raise ImageError(
            f"The local package {wheel.name} cannot be sent to jobs. It has compiled parts for {needed}, and the jobs "
            f"run on {machines}. Choose machines like this one with instance_types, or install {wheel.name} from a "
            f"package index that has wheels for {machines}. It came from {origin}."
        )
    newest, limit = _glibc_need(read_wheel(wheel.content)), _glibc_limit(target)
    if limit is not None and newest > limit:
        raise ImageError(
            f"The local package {wheel.name} cannot be sent to jobs. Its compiled parts need glibc 2.{newest}, and "
            f"the base image may have no newer one than 2.{limit}. Build it on an older system, or choose a newer "
            f"base_image. It came from {origin}."
        )


def _tags_of(wheel: LocalWheel) -> frozenset[object]:
    from packaging.utils import parse_wheel_filename

    return frozenset(parse_wheel_filename(wheel.filename)[3])


def _supported(target: InstallTarget) -> frozenset[object]:
    """Return the tags of the wheels that run in the jobs."""
    from packaging import tags

    if not target.platform:
        return frozenset(tags.sys_tags())
    major, minor = target.python.split(".")
    version, platforms = (int(major), int(minor)), list(_platforms(target))
    interpreter = f"cp{major}{minor}"
    # An image has the usual build of Python, also where this session is free-threaded.
    cpython = tags.cpython_tags(version, None if target.here else [interpreter], platforms)
    return frozenset(cpython) | frozenset(tags.compatible_tags(version, interpreter, platforms))


def _platforms(target: InstallTarget) -> Iterator[str]:
    architecture, match = ARCHITECTURES[target.platform], _LIBC.fullmatch(target.libc)
    family, newest = (match[1], int(match[3])) if match else ("manylinux", 17)
    for minor in range(newest + 1):
        yield f"{family}_{match[2] if match else 2}_{minor}_{architecture}"
    if family == "manylinux":
        yield from (f"manylinux{year}_{architecture}" for year in ("1", "2010", "2014"))
    # A wheel that was compiled here has no promise of a C library in its name. Its symbols are compared instead.
    if _is_musl_here() == (family == "musllinux"):
        yield f"linux_{architecture}"


def _is_musl_here() -> bool:
    import sysconfig

    return "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE") or "")


def _glibc_limit(target: InstallTarget) -> int | None:
    match = _LIBC.fullmatch(target.libc)
    return int(match[3]) if match and match[1] == "manylinux" else None


def _glibc_need(files: Mapping[str, WheelFile]) -> int:
    """Return the minor version of the newest glibc that the libraries in a wheel need; 0 for none."""
    libraries = (file.content for file in files.values() if file.content.startswith(b"\x7fELF"))
    return max((int(minor) for library in libraries for minor in _GLIBC.findall(library)), default=0)
