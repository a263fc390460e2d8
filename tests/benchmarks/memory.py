"""The memory of this process, as Linux tells it."""

from __future__ import annotations

import re
from pathlib import Path


def peak() -> int:
    """Bytes: the largest resident size so far, or since `forget_peak`.

    The one that `resource` tells begins with that of the process which started this one.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def forget_peak() -> int:
    """Have `peak` begin anew with the size that there is now, which is returned."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()
