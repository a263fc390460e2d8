"""A call of uv that does not end leaves no process and no open pipe."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cloudknot.program.packages.uv import _finished


def test_call_without_end_is_killed_and_its_pipes_are_closed(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    code = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired):
        _finished([sys.executable, "-c", code], dict(os.environ), 5.0, ())
    # An open pipe is reported when it is collected, and pytest makes that an error.
    gc.collect()
    assert not psutil.pid_exists(int(started.read_text()))
