"""A session with the traits of Windows submits, attaches, reads results and is ended by Ctrl-C.

The embedded cloud runs outside this session, as AWS does. Its address and keys are in the session's environment.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.functions import square
from tests.helpers.paths import ROOT

START = """
import signal, threading
# Ctrl-C sets Python's flag from another thread, and wakes no lock: so it is on Windows.
threading.Thread(target=signal.pause, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
signal.signal(signal.SIGINT, signal.default_int_handler)
import tests.integration.sessions.platforms.as_windows
import sys
import cloudknot as ck
"""


@pytest.fixture
def session(cloud):
    """Return a function that starts a session on Windows with the cloud's address."""
    started = []

    def start(code, *arguments):
        environment = {**os.environ, **cloud.environment(), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", START + code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_knot_is_found_and_used(session, process_knot_of):
    knot = process_knot_of(square)
    process = session("print(ck.Knot(name=sys.argv[1]).map(range(5), progress=False).result())", knot.name)
    output, errors = process.communicate(timeout=120)
    assert output.strip() == "[0, 1, 4, 9, 16]", errors


WAITS = {
    "element": "job.future()[0].result()",
    "loop": "for element in job.future().as_completed(): pass",
    "timeout": "job.future().result(timeout=300)",
}


def held(path):
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.05)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_a_wait(wait, session, process_knot_of, tmp_path):
    future = process_knot_of(held).map([str(tmp_path / "go")], progress=False)
    try:
        process = session(f"job = ck.BatchJob(sys.argv[1])\nprint('waits', flush=True)\n{wait}", future.job.job_id)
        assert process.stdout.readline() == "waits\n", process.communicate()
        # The wait itself begins after the last line.
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert "\nKeyboardInterrupt" in errors
    finally:
        (tmp_path / "go").touch()
    assert future.result() == [None]
