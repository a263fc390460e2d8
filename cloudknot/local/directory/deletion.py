"""The deletion of an embedded cloud. One that was interrupted is finished later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from cloudknot.local.directory.files import (
    CLOUD_FILES,
    DATABASES,
    DELETED,
    FORMAT,
    MARKER,
    OPTIONS,
    SERVER_LOCK,
    SERVER_LOG,
    START_LOCK,
)

_IN_USE = frozenset({MARKER, OPTIONS, SERVER_LOG, SERVER_LOCK, START_LOCK})
"""The files that a start uses."""


def delete_files(directory: Path) -> None:
    """Delete all files of a cloud that does not run, and the directory if nothing else is in it.

    Files of the user's own stay. The caller holds the lock of the server.
    """
    # A deletion that is interrupted leaves a part of the files. A cloud with a part of its records would be wrong.
    (directory / MARKER).write_text(DELETED, encoding="utf-8")
    _delete(directory, CLOUD_FILES - {MARKER})
    # The marker goes last: until then, the directory belongs to a cloud.
    (directory / MARKER).unlink()
    # Not a directory with other files, nor the target of a link.
    with contextlib.suppress(OSError):
        directory.rmdir()


def is_half_deleted(directory: Path) -> bool:
    """Return whether a deletion of the directory's cloud was interrupted."""
    return (directory / MARKER).read_text(encoding="utf-8").strip() == DELETED


def finish_deletion(directory: Path) -> None:
    """Delete the rest of a cloud of which a deletion was interrupted. The caller holds the lock of the server."""
    if is_half_deleted(directory):
        _delete(directory, CLOUD_FILES - _IN_USE)
        (directory / MARKER).write_text(f"{FORMAT}\n", encoding="utf-8")


def _delete(directory: Path, names: Iterable[str]) -> None:
    import shutil

    databases = [path for name in DATABASES for path in directory.glob(f"{name}*")]
    files = [directory / name for name in sorted(names)]
    for path in (*databases, *files, *directory.glob(".cloud-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
