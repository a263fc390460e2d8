"""Refusals of the system to write a cloud's files, as an error with a fix."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from cloudknot.errors import CloudknotConfigurationError
from cloudknot.local.directory.full_disk import FULL

_UNUSABLE = FULL | {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EIO, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
}


@contextlib.contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Turn the system's refusals to write a cloud's files into an error with a fix.

    Raises
    ------
    CloudknotConfigurationError
        The directory cannot be written.
    """
    try:
        yield
    except OSError as error:
        # Other errors of the system, and cloudknot's own timeouts, have other causes than the directory.
        if error.errno not in _UNUSABLE:
            raise
        problem, fix = str(error), "Choose a directory that you can write to"
        if error.errno in FULL:
            # Not the file: the one of a package that is being installed has a long path, and says nothing.
            problem, fix = os.strerror(error.errno), "Free space on its disk, or choose a directory on another disk"
        raise CloudknotConfigurationError(
            f"The embedded cloud cannot write to its directory {directory}: {problem}. {fix}: "
            "set CLOUDKNOT_LOCAL_DIR, or pass cloudknot.LocalCloud(directory)."
        ) from error
