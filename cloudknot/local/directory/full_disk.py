"""FullDisk: notes that the embedded cloud cannot store data, so that jobs and sessions get this reason.

A disk is full, or the server has as many open files as it may have: connections, and large objects that are read.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

CODE = "InsufficientStorage"
"""The error code of a call that cannot be stored. AWS has none for this: its storage has no end."""
FULL = {errno.ENOSPC, errno.EDQUOT}
"""The errors of the system for a full disk, and for a used-up share of it."""
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""The errors of the system for too many open files."""
ERRORS = NO_FILES | FULL
"""These, and the errors for a full disk and for a used-up share of it."""
_NO_FILES = (
    "The embedded cloud has as many open files as its system allows. Each connection is one, and each large result "
    "that is being read or written. Try again with fewer sessions at a time, or stop the cloud, run "
    "`ulimit -n 65536`, and start it again."
)
NO_SPACE = "No space left on device"
"""The system's words for a full disk."""
LEAST_FREE = 64 * 1024
"""Free bytes below which a disk counts as full."""
RESERVE = 64 * 1024 * 1024
"""Free bytes that stored objects leave, so that records, logs and deletions still find space."""
CHECK_PAUSE = 0.1
"""Seconds between two looks at the disk while only small data is stored. The reserve bears what comes meanwhile."""
RESERVED_SHARE = 20
"""The reserve is at most one part in so many of a small disk."""


class FullDisk:
    """The disks that the server and its jobs write to.

    Parameters
    ----------
    directories : Path
        Directories besides the one for temporary files.
    """

    def __init__(self, *directories: Path) -> None:
        import tempfile

        # Python keeps its first choice of this directory, even if that is full later.
        self._temporary = Path(tempfile.gettempdir())
        self._directories = (*directories, self._temporary)
        self._noted, self._reason = float("-inf"), ""

    def note(self, number: int, written: str | None = None) -> str:
        """Note that the server could not write, and return the message for its client.

        Parameters
        ----------
        number : int
            The errno.
        written : str, optional
            The file or directory that it could not write to, if the error named it.
        """
        if number in NO_FILES:
            self._noted, self._reason = time.monotonic(), "Too many open files in the embedded cloud"
            return _NO_FILES
        place = written or self._full_directory() or self._temporary
        self._noted, self._reason = time.monotonic(), f"{NO_SPACE}: {place}"
        return (
            f"A disk of the embedded cloud is full: no space is left in {place}. Free space there "
            f"(`df -h {place}` shows it), or delete results that you no longer need with job.clobber(). "
            "Then try again."
        )

    def reason(self, since: float) -> str | None:
        """Return the reason for a job that failed and ran ``since`` then, if it may have failed for lack of space."""
        # A failed write leaves nothing behind, so the disk may have space again when the job ends.
        place = self._full_directory()
        if place:
            return f"{NO_SPACE}: {place}"
        return self._reason if self._noted >= since else None

    def _full_directory(self) -> Path | None:
        return next(filter(_is_full, self._directories), None)


class Room:
    """The free space of a disk that writers share. It refuses data before the disk is full.

    Parameters
    ----------
    directory : Path
        An existing directory on the disk.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._announced = 0
        self._checked = float("-inf")

    def announce(self, size: int) -> None:
        """Keep room for ``size`` more bytes. Raise `OSError` if the disk would be full with them."""
        free = self._free()
        with self._lock:
            if self._announced + size > free:
                raise OSError(errno.ENOSPC, NO_SPACE, str(self._directory))
            self._announced += size

    def require(self) -> None:
        """Raise `OSError` if the disk is full. For small data: this looks at the disk only now and then."""
        now = time.monotonic()
        if now >= self._checked + CHECK_PAUSE:
            self.announce(0)
            self._checked = now

    def withdraw(self, size: int) -> None:
        """Give back announced bytes that are written, or that never come."""
        with self._lock:
            self._announced -= size

    def _free(self) -> int:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize - min(RESERVE, disk.f_blocks * disk.f_frsize // RESERVED_SHARE)


def refuse_full(directory: Path) -> None:
    """Raise `OSError` if the disk for a directory is full. The directory need not exist yet."""
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    if _is_full(existing):
        raise OSError(errno.ENOSPC, NO_SPACE, str(existing))


def _is_full(directory: Path) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    # Some file systems count no inodes.
    return disk.f_bavail * disk.f_frsize < LEAST_FREE or (disk.f_files > 0 and disk.f_favail == 0)
