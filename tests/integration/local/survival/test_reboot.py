"""Scripts of a user in processes of their own: results are there after a stop, a crash and a reboot of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.local.directory.files import server_lock, state_file
from cloudknot.local.directory.locks import is_locked
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until

FIRST = """
import time
from pathlib import Path
import cloudknot as ck

def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.02)
    return Path(path).name

knot = ck.Knot(name="waits", func=wait_for, cloud="local")
print(knot.map(["/", {directory!r}], progress=False).result())
knot.map([{path!r}], progress=False)
"""
SECOND = """
import cloudknot as ck
knot = ck.Knot(name="waits", cloud="local")
print([job.result() for job in knot.jobs])
"""


def run(script: str, directory: Path) -> str:
    """Run a script in a new Python. Return its output."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=4 * LONG, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def processes(server: int) -> list[int]:
    """Return the server and all processes that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            # The process may also end between the opening of the file and its reading.
            continue
    found, new = [], {server}
    while new:
        found += new
        new = {process for process, parent in parents.items() if parent in new}
    return found


def reboot(cloud: ck.LocalCloud, directory: Path) -> None:
    """End all processes of the cloud at once, as a machine without power does. Its state names a process of before."""
    for process in processes(cloud.status().pid):  # type: ignore[union-attr]
        # A process of the cloud may end by itself as soon as it notices the end of the server.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    until(lambda: not is_locked(server_lock(directory)))


def reboot_without_state(cloud: ck.LocalCloud, directory: Path) -> None:
    reboot(cloud, directory)
    state_file(directory).unlink()


def stop(cloud: ck.LocalCloud, directory: Path) -> None:
    assert cloud.stop()


@pytest.mark.parametrize("end", [stop, reboot, reboot_without_state])
def test_scripts_find_results_and_lost_job_is_retried(tmp_path: Path, end) -> None:
    directory = tmp_path / "cloud"
    cloud = ck.LocalCloud(directory)
    try:
        # The last job ends only after the end of the cloud, however busy the machine is.
        path = tmp_path / "ended"
        first = FIRST.format(directory=str(directory), path=str(path))
        assert run(first, directory) == "['', 'cloud']"
        knot = ck.Knot(name="waits", cloud=cloud)
        until(lambda: knot.jobs[-1].status == "RUNNING")
        end(cloud, directory)
        path.touch()
        assert run(SECOND, directory) == "[['', 'cloud'], ['ended']]"
    finally:
        cloud.stop()


def test_cell_of_notebook_goes_on_after_stop_and_start(own_cloud, command_on) -> None:
    """The user stops the cloud from a terminal, starts it later, and runs the next cell of the open notebook."""
    names = {"cloud": own_cloud}
    exec("import cloudknot as ck\nknot = ck.Knot(name='cube', func=lambda x: x ** 3, cloud=cloud)", names)
    exec("future = knot.map(range(3)); first = future.result()", names)
    # A result is there before its job has ended, and the command asks before it ends jobs.
    until(lambda: names["future"].job.status == "SUCCEEDED")
    command = command_on(own_cloud)
    assert command("local", "stop").exit_code == 0
    assert command("local", "start").exit_code == 0
    exec("again = future.job.result(); second = knot.map([5]).result()", names)
    assert (names["first"], names["again"], names["second"]) == ([0, 1, 8], [0, 1, 8], [125])
