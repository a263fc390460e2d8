"""`BatchJob.status` and `running()` of futures while children run: arrays, chunks, independent jobs and retries."""

import copy
import json
import pickle
import socket

import pytest

import cloudknot as ck
from tests.helpers.waiting import LONG, until


def pass_gate(address, x):
    """Return ``x`` when the gate is open. A negative one fails, then."""
    with socket.create_connection(tuple(address), timeout=120) as connection:
        connection.recv(1)
    if x < 0:
        raise ValueError(x)
    return x


@pytest.fixture(scope="module")
def knot(cloud):
    return ck.Knot(name="states", func=pass_gate, cloud=cloud)


def elements(gate, *numbers):
    return [(gate.address, number) for number in numbers]


def running(future):
    return [element.index for element in future if element.running()]


def check_ended(future):
    """Check that nothing runs after the end, and that both names of the state agree."""
    future.exception(LONG)
    assert not future.running()
    assert running(future) == []
    until(lambda: future.job.status in ("SUCCEEDED", "FAILED"))


def test_array_runs_while_some_children_wait(knot, gate):
    future = knot.map(elements(gate, *range(6)), starmap=True)
    assert len(future) == 6
    until(future.running)
    assert future.job.status == "RUNNING"
    # The cloud has two vCPUs, so the other children wait.
    found = until(lambda: running(future))
    assert 1 <= len(found) <= 2
    assert not future[5].running()
    gate.open()
    assert future.result(LONG) == list(range(6))
    check_ended(future)


def test_elements_of_a_chunk_run_together(knot, gate):
    future = knot.map(elements(gate, 0, 1, 2), starmap=True, chunksize=2)
    until(lambda: running(future) == [0, 1, 2] or running(future) == [0, 1])
    gate.open()
    check_ended(future)


@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_single_element_runs(knot, gate, job_type):
    future = knot.map(elements(gate, 7), starmap=True, job_type=job_type)
    single = future if isinstance(future, ck.MapFuture) else future[0]
    until(single.running)
    assert single[0].running()
    assert single.job.status == "RUNNING"
    gate.open()
    check_ended(single)


def test_independent_jobs_have_state_of_most_advanced_one(knot, gate):
    future = knot.map(elements(gate, *range(4)), starmap=True, job_type="independent")
    until(future.running)
    assert future.job.status == "RUNNING"
    assert 1 <= len(running(future)) <= 2
    gate.open()
    check_ended(future)


def test_retry_runs_only_its_own_elements(knot, gate):
    future = knot.map(elements(gate, 0, -1, 2), starmap=True)
    gate.open()
    assert isinstance(future.exception(LONG), ValueError)
    until(lambda: future.job.status == "FAILED")
    again = future.retry_failed()
    seen = {tuple(running(again)) for _ in iter(lambda: again.done(), True)}
    assert seen <= {(), (1,)}
    check_ended(again)


def test_running_makes_one_request_for_each_poll_and_only_if_asked(knot, gate):
    future = knot.map(elements(gate, *range(5)), starmap=True)
    until(lambda: future.job.states.get("RUNNING") and future.job.states.get("RUNNABLE"))
    events, lists, polls = knot.cloud.door.client("batch").meta.events, [], []

    def note(model, params, **_):
        # Other maps of this session may ask for their jobs.
        if future.job.job_id in str(params["body"]):
            (lists if model.name == "ListJobs" else polls).append(model.name)

    events.register("before-call.batch.*", note)
    try:
        for _ in range(2000):
            future.running()
            future[4].running()
            future[0].running()
        # One for the last poll before these, one for a poll that had begun, and one for each later poll.
        assert 1 <= len(lists) <= len(polls) + 2
        lists.clear()
        polls.clear()
        until(lambda: len(polls) >= 3)
        assert (lists, set(polls)) == ([], {"DescribeJobs"})
    finally:
        events.unregister("before-call.batch.*", note)
    gate.open()
    check_ended(future)


def test_state_is_a_string_with_the_subscripts_of_the_earlier_library(knot, gate):
    future = knot.map(elements(gate, 1), starmap=True)
    gate.open()
    future.result(LONG)
    state = until(lambda: future.job.status == "SUCCEEDED" and future.job.status)
    assert state["status"] == state.get("status") == "SUCCEEDED"
    assert isinstance(state["statusReason"], str)
    assert [attempt["container"]["exitCode"] for attempt in state["attempts"]] == [0]
    assert set(dict(state)) == {"status", "statusReason", "attempts"}
    with pytest.raises(KeyError):
        state["stats"]
    assert (state[0], state[-2:], len(state)) == ("S", "ED", 9)
    for plain in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), json.loads(json.dumps(state)), f"{state}"):
        assert type(plain) is str
        assert plain == state
    assert {state: 1}["SUCCEEDED"] == 1
    assert repr(state) == "'SUCCEEDED'"
