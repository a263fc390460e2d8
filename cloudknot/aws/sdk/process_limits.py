"""Check the limits of the system for this process before it needs more: open files, and processes of its user."""

from __future__ import annotations

import os
import sys

from cloudknot.errors import CloudknotConfigurationError

OPEN_FILES = 128
"""Open files that a session needs at least: up to 64 connections, and the files of the user's own code."""
FEW = 256
"""A limit of open files below which more are allowed. It is the default of macOS."""
PLENTY = 1024
"""Open files to allow if possible. Programs that use ``select`` cannot watch more."""
SESSION_TASKS = 16
"""Threads that a session may start at a time."""
CLOUD_TASKS = 64
"""Processes and threads that an embedded cloud with a few jobs starts."""
_LARGE = 4096
"""A limit of processes that nobody reaches by accident, so that counting them is not worth its time."""
_HOW = "(Linux: in /etc/security/limits.conf, or by the settings of the container or the batch system)"


def check_limits(tasks: int = SESSION_TASKS) -> None:
    """Raise the soft limit of open files if it is low, and check that the limits are enough.

    Parameters
    ----------
    tasks : int
        The processes and threads that will be started.

    Raises
    ------
    CloudknotConfigurationError
        A limit is too low.
    """
    # Windows has no such limits.
    if sys.platform == "win32":
        return
    import resource

    _allow_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # The limit does not apply to root.
    if limit != resource.RLIM_INFINITY and limit < _LARGE and os.getuid():
        _check_tasks(limit, _count_tasks(os.getuid()), tasks)


def _allow_open_files(soft: int, hard: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    if soft == resource.RLIM_INFINITY or soft >= FEW:
        return
    is_free = hard == resource.RLIM_INFINITY
    if not is_free and hard < OPEN_FILES:
        raise CloudknotConfigurationError(
            f"This process may open {hard} files at a time, and cloudknot needs {OPEN_FILES} for its connections. "
            f"Run `ulimit -n {PLENTY}` before you start Python. If that is refused, ask an administrator for a higher "
            f"limit {_HOW}."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (PLENTY if is_free else min(hard, PLENTY), hard))


def _check_tasks(limit: int, used: int, needed: int) -> None:
    if used + needed > limit:
        raise CloudknotConfigurationError(
            f"Your user may have {limit} processes and threads at a time, and has {used}. cloudknot needs {needed} "
            "more. End other programs, or run `ulimit -u 4096` before you start Python. If that is refused, ask an "
            f"administrator for a higher limit {_HOW}."
        )


def _count_tasks(user: int) -> int:
    """Return the number of processes and threads of a user; 0 if the system does not list them."""
    count = 0
    for process in os.listdir("/proc") if os.path.isdir("/proc/self/task") else ():
        try:
            if process.isdigit() and os.stat(f"/proc/{process}").st_uid == user:
                count += len(os.listdir(f"/proc/{process}/task"))
        except OSError:
            # The process has ended, or belongs to another user.
            continue
    return count
