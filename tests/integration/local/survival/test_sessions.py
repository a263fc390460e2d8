"""An open session goes on after its embedded cloud was stopped and started, or was killed."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

import pytest

import cloudknot as ck
from cloudknot.local.directory.state import read_state
from tests.helpers.functions import nap, square
from tests.helpers.waiting import LONG, until
from tests.integration.local.survival.conftest import end

STOPPED = r"has stopped\. Its knots and results are kept\. Start it with `cloudknot local start --directory {}`"


def test_session_starts_crashed_cloud_again(own_cloud, caplog) -> None:
    account = own_cloud.account
    before = own_cloud.status()
    end(own_cloud)
    assert own_cloud.call("sts", "get_caller_identity")["Account"] == account
    after = own_cloud.status()
    assert (after.endpoint, after.pid == before.pid) == (before.endpoint, False)
    assert "ended unexpectedly. This session started it again" in caplog.text


def test_two_sessions_start_crashed_cloud_once(own_cloud) -> None:
    own_cloud.call("sts", "get_caller_identity")
    other = ck.LocalCloud(own_cloud.directory)
    other.call("sts", "get_caller_identity")
    end(own_cloud)
    calls = [threading.Thread(target=one.call, args=("sts", "get_caller_identity")) for one in (own_cloud, other) * 4]
    for call in calls:
        call.start()
    for call in calls:
        call.join(LONG)
    assert other.status().pid == own_cloud.status().pid == read_state(own_cloud.directory).pid  # type: ignore[union-attr]


def test_session_gives_up_after_three_crashes(own_cloud) -> None:
    for _ in range(3):
        own_cloud.call("sts", "get_caller_identity")
        end(own_cloud)
    own_cloud.call("sts", "get_caller_identity")
    end(own_cloud)
    with pytest.raises(
        ck.CloudError, match=r"unexpectedly 3 times within 10 minutes.*`cloudknot local start"
    ) as caught:
        own_cloud.call("sts", "get_caller_identity")
    assert "server.log" in str(caught.value)
    # The person starts it, and the session goes on.
    own_cloud.start()
    assert own_cloud.call("sts", "get_caller_identity")


def test_call_to_stopped_cloud_names_command_and_works_after_it(own_cloud, command_on) -> None:
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    assert knot.map([3]).result(LONG) == [9]
    own_cloud.stop()
    with pytest.raises(ck.CloudError, match=STOPPED.format(re.escape(str(own_cloud.directory)))):
        _ = knot.jobs
    assert command_on(own_cloud)("local", "start").exit_code == 0
    assert knot.jobs[-1].result() == [9]
    assert knot.map([4]).result(LONG) == [16]


def test_session_follows_cloud_to_another_port(own_cloud) -> None:
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    port = int(own_cloud.endpoint_url.rpartition(":")[2])
    end(own_cloud)
    # Another program takes the port, and closes each connection.
    with socket.create_server(("127.0.0.1", port)) as taken:
        threading.Thread(target=close_all, args=(taken,), daemon=True).start()
        assert knot.map([3]).result(LONG) == [9]
        assert own_cloud.status().endpoint == own_cloud.endpoint_url != f"http://127.0.0.1:{port}"


def close_all(server: socket.socket) -> None:
    """Close each connection to a server at once, until the server is closed."""
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def test_results_of_open_futures_are_there_after_restart(own_cloud, interrupted) -> None:
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    future = knot.map(range(4))
    assert future.result(LONG) == [0, 1, 4, 9]
    interrupted(own_cloud)
    assert knot.jobs[-1].result() == [0, 1, 4, 9]
    assert ck.Knot(name="squares", cloud=ck.LocalCloud(own_cloud.directory)).jobs[-1].result() == [0, 1, 4, 9]
    assert knot.map([5]).result(LONG) == [25]


def test_map_in_progress_ends_right_after_crash(own_cloud) -> None:
    future = ck.Knot(name="naps", func=nap, cloud=own_cloud, retries=3).map([0.1, 3, 3, 0.2])
    until(lambda: future.job.states.get("RUNNING"))
    end(own_cloud)
    assert future.result(LONG) == [0.1, 3, 3, 0.2]
