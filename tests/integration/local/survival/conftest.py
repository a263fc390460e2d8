"""Fixtures that end an embedded cloud, and start it again in the same directory."""

import contextlib
import os
import signal

import pytest

from cloudknot.local.directory.files import server_lock
from cloudknot.local.directory.locks import is_locked
from cloudknot.local.directory.state import read_state
from tests.helpers.waiting import until


def stop(cloud):
    """Stop a cloud, and start it again."""
    assert cloud.stop()
    cloud.start()
    return cloud


def end(cloud):
    """End the server of a cloud with SIGKILL, and do not start it again. An open session may do so at once."""
    former = read_state(cloud.directory).pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(former, signal.SIGKILL)

    def has_ended():
        state = read_state(cloud.directory)
        return not is_locked(server_lock(cloud.directory)) or (state is not None and state.pid != former)

    until(has_ended)


def kill(cloud):
    """End the server of a cloud with SIGKILL, and start it again."""
    end(cloud)
    cloud.start()
    return cloud


@pytest.fixture
def restarted():
    """Return a function that stops a cloud, and starts it again."""
    return stop


@pytest.fixture
def killed():
    """Return a function that ends the server of a cloud with SIGKILL, and starts it again."""
    return kill


@pytest.fixture(params=[stop, kill], ids=["stopped", "killed"])
def interrupted(request):
    """Return a function that ends a cloud in one of the two ways, and starts it again. The test runs once for each."""
    return request.param
