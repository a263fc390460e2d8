"""Locks that this machine resolved earlier, so that an unchanged Knot needs no index.

::

    <cache>/locks/<digest of the request>.json

A stored lock counts as long as its packages are installed here in the same versions as then.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cloudknot.options import config
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.solving.request import LockRequest

FORMAT = 1
KEPT = 500
"""The number of stored locks. The oldest are deleted."""


def read(request: LockRequest, here: Mapping[str, str]) -> tuple[Lock, list[str]] | None:
    """Return the stored lock of a request and its notes; None without one that counts.

    Parameters
    ----------
    request : LockRequest
    here : mapping of str to str
        The versions that are installed here.
    """
    try:
        content = json.loads(_path(request).read_bytes())
        packages = tuple(LockedPackage(*fields) for fields in content["packages"])
        unchanged = all(here.get(name, "") == version for name, version in content["here"].items())
        notes = [str(note) for note in content["notes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing or damaged: the index is asked again, and the file is replaced.
        return None
    return (Lock(request.target, packages), notes) if unchanged else None


def write(request: LockRequest, here: Mapping[str, str], lock: Lock, notes: Iterable[str]) -> None:
    """Store the lock of a request, with the installed versions that it depends on."""
    packages = [
        [package.name, package.version, package.filename, package.sha256, package.url, package.size]
        for package in lock.packages
    ]
    versions = {package.name: here.get(package.name, "") for package in lock.packages}
    text = json.dumps({"packages": packages, "here": versions, "notes": list(notes)})
    path = _path(request)
    # Without a writable cache, each session asks the index.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{secrets.token_hex(4)}")
        temporary.write_text(text, encoding="utf-8")
        # Two sessions may store the same lock at once. Each replaces the whole file.
        os.replace(temporary, path)
        _prune(path.parent)


def _prune(folder: Path) -> None:
    files = list(folder.iterdir())
    if len(files) > KEPT:
        for file in sorted(files, key=lambda file: file.stat().st_mtime)[: len(files) - KEPT]:
            file.unlink(missing_ok=True)


def _path(request: LockRequest) -> Path:
    target = request.target
    parts = [
        FORMAT,
        [line for line in request.lines if line.startswith("-")],
        sorted(line for line in request.lines if not line.startswith("-")),
        sorted(request.preferred),
        [target.platform, target.python, target.libc],
        sorted(map(_wheel, request.wheels)),
        request.indexes.addresses(),
    ]
    return config.cache_folder() / "locks" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"


def _wheel(wheel: LocalWheel) -> list[str]:
    """Return the part of a local wheel that a lock depends on: its metadata, and not its code."""
    return [wheel.name, wheel.version, hashlib.sha256(metadata_of(wheel)).hexdigest()]


def metadata_of(wheel: LocalWheel) -> bytes:
    """Return the text of ``METADATA`` in a wheel; empty if the wheel is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return b"".join(map(archive.read, names))
    except zipfile.BadZipFile:
        return b""
