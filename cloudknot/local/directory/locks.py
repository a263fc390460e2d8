"""Locked files, by which sessions and server processes exclude each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from cloudknot.errors import CKTimeoutError

LOCK_TIMEOUT = 40 * 60.0
"""Seconds. An installation of requirements may hold a lock for almost as long."""


@contextlib.contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[int]:
    """Hold an exclusive lock on a file for the duration of the block, and yield the file's descriptor.

    Raises
    ------
    CKTimeoutError
        Another process, or another thread, has held the lock for ``timeout`` seconds.
    """
    # filelock waits for a limited time, works between threads and processes, and the kernel frees a lock when its
    # holder dies. The caller may pass the descriptor on to a child: when a session dies, its pip still holds the lock.
    from filelock import FileLock, Timeout

    descriptors: list[int] = []
    lock = FileLock(path, timeout=timeout, poll_interval=0.02, on_acquired=descriptors.append)
    try:
        lock.acquire()
    except Timeout as error:
        raise CKTimeoutError(
            f"Another process has held the lock {path} for {timeout:.0f} s. A process holds it while it starts an "
            "embedded cloud or installs the requirements of an image. Call again after it has finished. If it hangs, "
            f"`fuser {quote(str(path))}` shows its process id: end it with `kill`, then try again."
        ) from error
    try:
        yield descriptors[0]
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock. Several processes may call this at the same time."""
    # Not at the top: Windows has no fcntl, but cloudknot must be importable there for use with AWS.
    import fcntl

    try:
        with path.open(encoding="utf-8") as stream:
            # A shared lock, because filelock can only take the exclusive one: two sessions that check at the same
            # time would each mistake the other for a running cloud.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
