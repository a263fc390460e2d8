"""Find and run uv."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence


def find() -> str | None:
    """Return the path of uv: the one installed beside cloudknot, else the one on the PATH; None without one."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run uv and return its exit code and output."""
    return subprocess.run([find() or "uv", *arguments], capture_output=True, text=True, check=False)
