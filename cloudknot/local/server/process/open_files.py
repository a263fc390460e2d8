"""The limit of open files."""

from __future__ import annotations

import contextlib
import resource

FILE_LIMITS = (65536, 24576, 10240, 4096, 1024)
"""Open files to ask for in turn, where the system names no limit of its own."""


def raise_file_limit() -> None:
    """Allow this process as many open files as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILE_LIMITS if hard == resource.RLIM_INFINITY else (hard,)
    for limit in wanted:
        # macOS has no hard limit, but refuses more files than the kernel allows each process.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return
