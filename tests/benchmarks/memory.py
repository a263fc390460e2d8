"""The peak memory of this process, as Linux reports it."""

from __future__ import annotations

import re
from pathlib import Path


def peak() -> int:
    """Return the largest resident size since the start or the last `forget_peak`, in bytes."""
    # The peak that `resource` reports starts with the size of the parent process.
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024


def forget_peak() -> int:
    """Reset `peak` to the current size, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()
