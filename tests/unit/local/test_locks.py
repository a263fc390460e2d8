"""Locks between threads and processes: those of the embedded cloud's directory, and that of the config file."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudknot.errors import CKTimeoutError
from cloudknot.local.state import is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from cloudknot.local.state import locked
with locked(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""
PASS_ON = """
import subprocess, sys
from pathlib import Path
from cloudknot.local.state import locked
with locked(Path(sys.argv[1])) as descriptor:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=[descriptor])
    print(child.pid, flush=True)
    child.wait()
"""


def holder(program, path):
    return subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_threads_exclude_each_other_and_wait_for_so_long_only(tmp_path):
    with locked(tmp_path / "lock"), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(lambda: locked(tmp_path / "lock", 0.2).__enter__())
        with pytest.raises(CKTimeoutError, match=r"Another process has held .*lock for 0 s"):
            waiting.result(30)
        assert 0.2 <= time.monotonic() - began < 10
    with locked(tmp_path / "lock", 0.2):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_the_death_of_a_process_frees_its_lock(tmp_path):
    with holder(HOLD, tmp_path / "lock") as process:
        process.stdout.readline()
        assert is_locked(tmp_path / "lock")
        with pytest.raises(CKTimeoutError), locked(tmp_path / "lock", 0):
            pass
        process.kill()
    with locked(tmp_path / "lock", 10):
        pass


def test_a_child_with_the_descriptor_keeps_the_lock_of_a_process_that_died(tmp_path):
    with holder(PASS_ON, tmp_path / "lock") as process:
        process.stdout.readline()
        process.kill()
        process.wait()
        assert is_locked(tmp_path / "lock")
        process.stdin.close()
        with locked(tmp_path / "lock", 10):
            pass


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path):
    assert not is_locked(tmp_path / "none" / "lock")
    assert not (tmp_path / "none").exists()
