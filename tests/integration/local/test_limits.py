"""The embedded cloud at the limits of its machine: each limit is one clear error at once, and nothing is half made."""

import os
import subprocess
import sys

from cloudknot.local import LocalCloud
from tests.helpers.paths import ROOT

START = """
import sys
from cloudknot.errors import CloudknotError
from cloudknot.local import LocalCloud

try:
    print("started", LocalCloud(sys.argv[1]).start().pid)
except CloudknotError as error:
    print(type(error).__name__, error)
"""
SHIFTED_CLOCK = """
import datetime, time

real_time, real_datetime = time.time, datetime.datetime

class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

time.time = lambda: real_time() + {seconds}
datetime.datetime = Shifted
"""


def session(program, *arguments, timeout=100, **options):
    """Run a program in a session of its own, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [*options.pop("prefix", ()), sys.executable, "-c", program, *map(str, arguments)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout, env=environment, **options
    )
    return run.stdout + run.stderr


class TestClock:
    def test_clock_of_session_an_hour_off_is_one_error_and_cloud_can_be_stopped(self, own_cloud, tmp_path):
        (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(seconds=-3600))
        shifted = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        output = session(START, own_cloud.directory, env=shifted)
        assert output.startswith("ClockSkewError The clock of this session")
        assert "differ by 60 minutes" in output
        stop = "import sys; from cloudknot.local import LocalCloud; print(LocalCloud(sys.argv[1]).stop())"
        assert session(stop, own_cloud.directory, env=shifted) == "True\n"
        assert LocalCloud(own_cloud.directory).status() is None
