"""The use of environments: which ones running jobs hold, and when each was used last.

A fork server's client holds its environment by a shared lock on a file in it. The kernel frees the lock when the
embedded cloud dies. The removal of an environment needs the exclusive lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

USED = ".used"
"""The file that is locked, in each environment. Its time is that of the last use."""


def mark_used(environment: Path) -> None:
    """Note the use of an environment."""
    # A full or read-only disk must not keep a job from running.
    with contextlib.suppress(OSError):
        (environment / USED).touch()


def last_used(environment: Path) -> float:
    """Return the time of the last use in seconds since the epoch; 0 for an environment that was never complete."""
    try:
        return (environment / USED).stat().st_mtime
    except OSError:
        return 0.0


def unused_seconds(environment: Path) -> float:
    """Return the seconds since the last use."""
    return time.time() - last_used(environment)


@contextlib.contextmanager
def removable(environment: Path) -> Iterator[bool]:
    """Hold an environment for its removal, and yield whether that is allowed: no running job holds it."""
    import fcntl

    try:
        descriptor = os.open(environment / USED, os.O_RDONLY)
    except FileNotFoundError:
        # An incomplete environment. The caller holds the lock of its installation.
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


class Hold:
    """The use of an environment by a fork server, until `release`.

    Raises
    ------
    FileNotFoundError
        The environment does not exist, or is being removed.
    """

    def __init__(self, environment: Path) -> None:
        import fcntl

        mark_used(environment)
        self._descriptor = os.open(environment / USED, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # The environment may have been removed between the two calls.
            os.stat(environment / USED)
        except OSError as error:
            self.release()
            raise FileNotFoundError(f"{environment} is being removed") from error

    def release(self) -> None:
        """End the use. Further calls have no effect."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
