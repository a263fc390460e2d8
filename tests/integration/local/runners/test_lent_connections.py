"""The jobs of a map use one connection to S3 after the other, and a job that dies in a request spoils no other one."""

import os
import socket
import sys

import pytest

from tests.helpers.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def connection():
    """Return this job's only connection."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            # The directory that was listed, and files that are no sockets.
            continue
        if copy.family == socket.AF_INET:
            found.append(copy)
    (only,) = found
    return only


def process_and_port(end):
    """Return the process of this job and the port of its connection, or end this job in the middle of a request."""
    own = connection()
    if end is not None:
        own.sendall(b"PUT /bucket/key HTTP/1.1\\r\\nContent-Length: 100\\r\\n")
        os._exit(end)
    return os.getpid(), own.getsockname()[1]


def run_alone(knot, end=None):
    """Run a job until its process has ended, and return its result."""
    future = knot.map([end], progress=False)
    until(lambda: future.job.status in ("SUCCEEDED", "FAILED"))
    return None if end else future.result(60)[0]


def test_jobs_in_processes_of_their_own_share_a_connection(process_knot_of):
    knot = process_knot_of(process_and_port)
    (first, port), (second, same_port) = run_alone(knot), run_alone(knot)
    assert first != second
    assert port == same_port


def test_connection_of_job_that_died_is_not_used_again(process_knot_of):
    knot = process_knot_of(process_and_port)
    _, port = run_alone(knot)
    run_alone(knot, end=3)
    _, other = run_alone(knot)
    assert other != port


def test_connection_with_unanswered_request_is_not_used_again(process_knot_of):
    """A job may end with code 0 although its function has left half a request in the connection."""
    knot = process_knot_of(process_and_port)
    futures = [knot.map([None, 0, None], progress=False) for _ in range(2)]
    until(lambda: all(future.job.status in ("SUCCEEDED", "FAILED") for future in futures))
    for future in futures:
        assert [future[index].result(60)[0] > 1 for index in (0, 2)] == [True, True]
