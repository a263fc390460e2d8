"""A file lock excludes other threads and processes until its last holder ends. Threads and processes are real."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudknot.errors import CKTimeoutError
from cloudknot.local.directory.locks import is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from cloudknot.local.directory.locks import locked
with locked(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""
INHERIT = """
import subprocess, sys
from pathlib import Path
from cloudknot.local.directory.locks import locked
with locked(Path(sys.argv[1])) as descriptor:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=[descriptor])
    print(child.pid, flush=True)
    child.wait()
"""


def start_holder(program, path):
    """Start a process that prints a line when it holds the lock."""
    return subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_lock_excludes_other_threads_and_times_out(tmp_path):
    with locked(tmp_path / "lock"), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(lambda: locked(tmp_path / "lock", 0.2).__enter__())
        with pytest.raises(CKTimeoutError, match=r"Another process has held .*lock for 0 s"):
            waiting.result(30)
        assert 0.2 <= time.monotonic() - began < 10
    with locked(tmp_path / "lock", 0.2):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_death_of_process_releases_its_lock(tmp_path):
    with start_holder(HOLD, tmp_path / "lock") as process:
        process.stdout.readline()
        assert is_locked(tmp_path / "lock")
        with pytest.raises(CKTimeoutError), locked(tmp_path / "lock", 0):
            pass
        process.kill()
    with locked(tmp_path / "lock", 60):
        pass


def test_child_process_with_descriptor_keeps_lock_of_dead_parent(tmp_path):
    with start_holder(INHERIT, tmp_path / "lock") as process:
        process.stdout.readline()
        process.kill()
        process.wait()
        assert is_locked(tmp_path / "lock")
        # The child process ends when its standard input does. The lock ends with the last open descriptor.
        process.stdin.close()
        with locked(tmp_path / "lock", 60):
            pass


def test_lock_that_was_never_taken_is_free_and_has_no_file(tmp_path):
    assert not is_locked(tmp_path / "none" / "lock")
    assert not (tmp_path / "none").exists()
