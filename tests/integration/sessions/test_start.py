"""A server process makes its imports while a session prepares a knot, and creates nothing before it is needed."""

import os
import signal
import threading
from pathlib import Path

import pytest

import cloudknot as ck
from tests.helpers.batch import alive
from tests.helpers.waiting import until


@pytest.fixture
def cloud(tmp_path):
    cloud = ck.LocalCloud(tmp_path / "cloud")
    yield cloud
    cloud.stop()


def members(session):
    """Return the processes of a kernel's session, except zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def begin(cloud):
    """Start a process that waits, and return its session."""
    with cloud._connection.expected():
        return cloud._connection._waiting._process.pid


def test_process_that_waited_becomes_the_server(cloud):
    session = begin(cloud)
    assert not cloud.directory.exists()
    assert cloud.start().pid in members(session)
    # The server runs in the directory of its cloud, and its log is there.
    assert Path(f"/proc/{cloud.status().pid}/cwd").resolve() == cloud.directory
    assert Path(f"/proc/{cloud.status().pid}/fd/2").resolve() == cloud.directory / "server.log"


def test_process_ends_with_an_error_of_the_session(cloud):
    sessions = []

    def fail():
        with cloud._connection.expected():
            sessions.append(cloud._connection._waiting._process.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    until(lambda: not members(sessions[0]))
    assert not cloud.directory.exists()


def test_refused_function_creates_nothing(cloud):
    with pytest.raises(ck.CloudknotInputError):
        ck.Knot(name="refused", func=threading.current_thread().join, cloud=cloud)
    assert not cloud.directory.exists()


def test_killed_process_is_replaced(cloud):
    session = begin(cloud)
    until(lambda: members(session))
    # One call for all of them, because the first process forks another one and ends.
    os.killpg(session, signal.SIGKILL)
    until(lambda: not members(session))
    assert cloud.start().pid not in members(session)


def test_variables_that_changed_meanwhile_count(cloud, monkeypatch):
    session = begin(cloud)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    pid = cloud.start().pid
    assert b"OMP_NUM_THREADS=3" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    until(lambda: not members(session))


def test_no_process_starts_beside_a_running_cloud(cloud):
    cloud.start()
    with ck.LocalCloud(cloud.directory)._connection.expected():
        pass
    other = ck.LocalCloud(cloud.directory)
    with other._connection.expected():
        assert other._connection._waiting is None


def test_process_ends_if_another_session_was_faster(cloud):
    session = begin(cloud)
    with ck.LocalCloud(cloud.directory) as faster:
        assert cloud.start().pid == faster.status().pid
        until(lambda: not members(session))
        assert alive(faster.status().pid)
