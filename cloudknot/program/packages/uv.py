"""Find and run uv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError

if TYPE_CHECKING:
    import subprocess

TIMEOUT = 15 * 60.0
"""Seconds for one call of uv, unless the caller knows better."""
# uv keeps the user's indexes and cache, but not settings that would install into another Python.
PLACES = (
    *("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX"),
    *("UV_PROJECT_ENVIRONMENT", "UV_BREAK_SYSTEM_PACKAGES"),
)


def find() -> str | None:
    """Return the path of uv: the one installed beside cloudknot, else the one on the PATH; None without one."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    keep_open: Collection[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run uv and return its exit code and output.

    Parameters
    ----------
    arguments : sequence of str
        Without credentials: every user of this machine can list them.
    environment : mapping of str to str, optional
        Variables besides those of this process, for example with the login of an index. Default: those for downloads
        of locked files.
    timeout : float
        Seconds.
    keep_open : collection of int
        Descriptors of locked files that uv holds as well, in case this process is killed.

    Raises
    ------
    ImageError
        uv is missing, or did not end in time.
    """
    import subprocess

    from cloudknot.program.packages.indexes import Indexes

    extra = Indexes.for_downloads().environment() if environment is None else environment
    own = {name: value for name, value in os.environ.items() if not name.startswith(PLACES)}
    # A missing Python must be an error, and not a download of another one.
    variables = {**own, "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never", **extra}
    command = [find() or "uv", "--color", "never", *arguments]
    try:
        return _finished(command, variables, timeout, keep_open)
    except FileNotFoundError as error:
        raise ImageError("uv is not installed, so no package can be installed. Run `pip install uv`.") from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(
            f"uv did not end within {timeout / 60:.0f} minutes: `uv {' '.join(arguments[:2])}`. Check the network, "
            "and try again."
        ) from error


def _finished(
    command: Sequence[str], variables: Mapping[str, str], timeout: float, keep_open: Collection[int]
) -> subprocess.CompletedProcess[str]:
    import subprocess

    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=variables,
        timeout=timeout,
        # uv stays in the terminal's group, so Ctrl-C ends it and its compilers, whichever thread waits for it.
        pass_fds=keep_open,
        encoding="utf-8",
    )
