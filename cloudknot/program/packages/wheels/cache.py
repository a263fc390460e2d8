"""Keep built wheels in the user's cache folder. A damaged or foreign entry counts as missing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from cloudknot.options import config
from cloudknot.program.packages.lock import LocalWheel

KEPT = 64
"""Wheels in the cache. The ones that were not used for longest are deleted."""
_CHECK = "sha256"


def folder() -> Path:
    """Return the folder of the cache."""
    return config.cache_folder() / "wheels"


def read(key: str) -> LocalWheel | None:
    """Return the wheel that is stored under a key."""
    entry = folder() / key
    try:
        # Another user's wheel would run in this user's jobs.
        if hasattr(os, "getuid") and entry.stat().st_uid != os.getuid():
            return None
        (path,) = entry.glob("*/*.whl")
        name, _, version = path.parent.name.partition("==")
        wheel = LocalWheel(name, version, path.name, path.read_bytes())
        if (entry / _CHECK).read_text(encoding="utf-8") != wheel.sha256:
            return None
        os.utime(entry)
    except (OSError, ValueError):
        return None
    return wheel


def write(key: str, wheel: LocalWheel) -> None:
    """Store a wheel. Without a writable cache folder, nothing is stored."""
    temporary = folder() / f".{key}.{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        (temporary / f"{wheel.name}=={wheel.version}").mkdir(parents=True, mode=0o700)
        (temporary / f"{wheel.name}=={wheel.version}" / wheel.filename).write_bytes(wheel.content)
        (temporary / _CHECK).write_text(wheel.sha256, encoding="utf-8")
        shutil.rmtree(folder() / key, ignore_errors=True)
        # An entry appears by this rename, so no other session reads half of one.
        temporary.rename(folder() / key)
        _discard_old()
    shutil.rmtree(temporary, ignore_errors=True)


def _discard_old() -> None:
    entries = sorted(folder().iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[KEPT:]:
        shutil.rmtree(entry, ignore_errors=True)
