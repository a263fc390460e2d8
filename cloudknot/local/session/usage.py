"""The disk space and the memory that an embedded cloud uses."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudknot.local.directory.disk_use import DiskUse
from cloudknot.local.directory.files import DATABASES, LOGS, OBJECTS
from cloudknot.local.runners.images.prune import remaining_size
from cloudknot.local.s3.storage.schema import DATABASE, count_objects


@dataclass(frozen=True)
class CloudUsage:
    """The bytes that an embedded cloud uses, and the number of its objects.

    Attributes
    ----------
    disk : mapping
        ``"results"`` (all objects in S3), ``"logs"``, ``"records"`` (jobs, stacks and users), and ``"images"`` with
        their installed packages.
    free : int
        The bytes that are free on the disk of the cloud's directory.
    objects : int
        The number of objects in S3.
    memory : mapping
        ``"server"`` and ``"jobs"``. Empty if the cloud does not run, or the system has no ``/proc``. Jobs in
        containers do not count.
    """

    disk: Mapping[str, int]
    free: int
    objects: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)


def usage_of(directory: Path, server: int | None) -> CloudUsage:
    """Return what the cloud of a directory uses. ``server`` is its process id, or None if it does not run."""
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    disk = {
        "results": DiskUse([directory / OBJECTS]).bytes,
        "logs": _size(directory / LOGS),
        "records": sum(_size(directory / name) for name in DATABASES if name != LOGS),
        "images": remaining_size(directory),
    }
    free, memory = shutil.disk_usage(existing).free, memory_of(server) if server else {}
    return CloudUsage(disk, free, count_objects(directory), memory)


def size_of_databases(directory: Path) -> int:
    """Return the bytes of all databases of a cloud, that of the small objects included."""
    return sum(_size(directory / name) for name in (*DATABASES, f"{OBJECTS}/{DATABASE}"))


def _size(database: Path) -> int:
    """Return the bytes of a database with the files beside it."""
    size = 0
    for path in database.parent.glob(f"{database.name}*"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def memory_of(server: int) -> dict[str, int]:
    """Return the bytes of memory of the server and of its jobs. Empty without ``/proc``."""
    parents = _parents()
    if server not in parents:
        return {}
    jobs, found = 0, {server}
    while found := {pid for pid, parent in parents.items() if parent in found}:
        jobs += sum(map(_memory, found))
    return {"server": _memory(server), "jobs": jobs}


def _parents() -> dict[int, int]:
    """Return the parent of each process of this machine, by process id."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may contain spaces. See proc(5), field 4.
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
    return parents


def _memory(process: int) -> int:
    """Return the bytes of a process. Forks share most of theirs, so each counts its part (PSS, see proc(5))."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
        return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    # Some kernels lack that file.
    with contextlib.suppress(OSError):
        pages = Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0
