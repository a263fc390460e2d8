"""Run pip, in place of a missing uv."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError
from cloudknot.program.packages.indexes import Indexes

if TYPE_CHECKING:
    import subprocess

TIMEOUT = 30 * 60.0
"""Seconds for one call of pip."""
# Settings that would install into another Python.
_PLACES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PYTHONHOME", "PYTHONPATH")


def run(
    arguments: Sequence[str], indexes: Indexes, *, timeout: float = TIMEOUT, keep_open: Collection[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run pip and return its exit code and output. It never asks a question.

    Parameters
    ----------
    arguments : sequence of str
        Without credentials: every user of this machine can list them.
    indexes : Indexes
    timeout : float
        Seconds.
    keep_open : collection of int
        Descriptors of locked files that pip holds as well, in case this process is killed.

    Raises
    ------
    ImageError
        pip is missing, or did not end in time.
    """
    import subprocess

    own = {name: value for name, value in os.environ.items() if name not in _PLACES}
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--no-color", *arguments]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**own, **_variables(indexes)},
            timeout=timeout,
            pass_fds=keep_open,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(
            f"pip did not end within {timeout / 60:.0f} minutes. Check the network, and try again."
        ) from error
    if "No module named pip" in answer.stderr:
        raise ImageError("Neither uv nor pip is installed, so jobs can get no packages. Run `python -m ensurepip`.")
    return answer


def _variables(indexes: Indexes) -> dict[str, str]:
    """Return pip's variables for these indexes."""
    values = {
        "PIP_INDEX_URL": indexes.default,
        "PIP_EXTRA_INDEX_URL": " ".join(indexes.extra),
        "PIP_FIND_LINKS": " ".join(indexes.find_links),
        "PIP_TRUSTED_HOST": " ".join(indexes.trusted),
        "PIP_CERT": indexes.certificates,
        "PIP_NO_INDEX": "1" if indexes.no_index else "",
    }
    return {name: value for name, value in values.items() if value}
