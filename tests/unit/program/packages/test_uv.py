"""A call of uv that does not end leaves no process and no open pipe."""

from __future__ import annotations

import gc
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from cloudknot.program.packages.uv import _finished


def test_call_without_end_is_killed_and_its_pipes_are_closed(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    # A shell writes the number at once. On a busy machine, Python could take all of the five seconds to start.
    script = 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec sleep 600'
    with pytest.raises(subprocess.TimeoutExpired):
        _finished(["/bin/sh", "-c", script, str(started)], dict(os.environ), 5.0, ())
    # An open pipe is reported when it is collected, and pytest makes that an error.
    gc.collect()
    assert not psutil.pid_exists(int(started.read_text()))
