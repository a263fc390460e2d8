"""`Knot.map` on the embedded cloud over HTTP. Jobs are processes, or containers where a Docker engine is available."""

import functools
import importlib
import os
import pickle
import socket
import sys
import threading
from concurrent.futures import as_completed

import pytest

import cloudknot as ck
from cloudknot.aws.batch import LIVE_STATES
from cloudknot.errors import CloudknotInputError
from tests.helpers.functions import nap, square
from tests.helpers.waiting import until

LONG = 120


@pytest.mark.contract
def test_map_returns_results_in_input_order(knot_of):
    future = knot_of(square).map([3, 1, 2])
    assert future.result(LONG) == [9, 1, 4]
    assert future.done()
    assert [element.result() for element in future] == [9, 1, 4]


def test_map_accepts_generator(knot_of):
    assert knot_of(square).map(x for x in range(5)).result(LONG) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("kind", [list, iter])
def test_large_elements_arrive_as_they_were_when_they_were_read(process_knot_of, kind):
    """A list keeps its elements, so they are sent from their own memory. A generator may use one buffer again."""
    size = 5 * 1024 * 1024

    def reused():
        buffer = bytearray(size)
        for number in range(6):
            buffer[:] = bytes([number]) * size
            yield pickle.PickleBuffer(buffer if kind is iter else bytearray(buffer))

    knot = process_knot_of(lambda data: (len(data), set(data)))
    assert knot.map(kind(reused())).result(LONG) == [(size, {number}) for number in range(6)]


def test_empty_map_submits_nothing(process_knot_of):
    knot = process_knot_of(square)
    before = len(knot.jobs)
    future = knot.map([])
    assert future.done()
    assert future.result() == []
    assert len(knot.jobs) == before


@pytest.mark.contract
def test_map_of_one_element_is_plain_job(knot_of):
    future = knot_of(square).map([12])
    assert future.result(LONG) == [144]
    (job,) = future.job._view.describe_jobs()
    assert "arrayProperties" not in job


@pytest.mark.parametrize("chunksize", [1, 3, 7, 100])
def test_each_child_job_processes_chunksize_elements(knot_of, chunksize):
    future = knot_of(square).map(range(10), chunksize=chunksize)
    assert future.result(LONG) == [x * x for x in range(10)]
    (job,) = future.job._view.describe_jobs()
    children = -(-10 // chunksize)
    assert job.get("arrayProperties", {"size": 1})["size"] == children


def test_map_accepts_elements_of_different_sizes(knot_of):
    # 37 and 101 have no common factor, so the 40 sizes all differ.
    words = ["x" * (n * 37 % 101) for n in range(40)]
    assert knot_of(len).map(words, chunksize=7).result(LONG) == [len(word) for word in words]


def test_map_accepts_more_input_than_one_upload_part(knot_of):
    # 21 MB of input: three parts of eight megabytes.
    blocks = [bytes([n]) * 3_000_000 for n in range(7)]
    assert knot_of(first_and_size).map(blocks, chunksize=2).result(LONG) == [(n, 3_000_000) for n in range(7)]


def first_and_size(block):
    return block[0], len(block)


def add(a, b=10):
    return a + b


def test_starmap_unpacks_each_element_into_arguments(knot_of):
    assert knot_of(add).map([(1, 2), (3,), [4, 5]], starmap=True).result(LONG) == [3, 13, 9]


def test_independent_map_submits_separate_job_for_each_element(knot_of):
    future = knot_of(square).map(range(3), job_type="independent")
    assert future.result(LONG) == [0, 1, 4]
    assert len(set(future.job.job_ids)) == 3


def return_none(x):
    return None


def test_none_is_returned_as_result(knot_of):
    assert knot_of(return_none).map([1, 2]).result(LONG) == [None, None]


def environment(name):
    return os.environ.get(name)


@pytest.mark.contract
def test_job_gets_env_vars_but_no_variables_of_session(knot_of, monkeypatch):
    monkeypatch.setenv("ONLY_HERE", "secret")
    knot = knot_of(environment)
    names = ["GREETING", "ONLY_HERE", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JOB_ARRAY_INDEX"]
    assert knot.map(names, env_vars={"GREETING": "hello"}).result(LONG) == ["hello", None, "1", "3"]
    # The form of earlier versions: the pairs of AWS's own API.
    old_style = [{"name": "GREETING", "value": "hi"}]
    assert knot.map(["GREETING"], env_vars=old_style).result(LONG) == ["hi"]


def spoil_environment(way):
    if way == "clear":
        os.environ.clear()
    else:
        os.environ.update(
            AWS_ACCESS_KEY_ID="mine", AWS_SECRET_ACCESS_KEY="mine", AWS_ENDPOINT_URL="http://127.0.0.1:1"
        )
    return way


def test_worker_stores_results_after_function_changes_its_environment(knot_of):
    assert knot_of(spoil_environment).map(["clear", "other keys"]).result(LONG) == ["clear", "other keys"]


class Shape:
    def __init__(self, sides):
        self.sides = sides

    def __eq__(self, other):
        return isinstance(other, Shape) and other.sides == self.sides

    def __hash__(self):
        return hash(self.sides)

    def grow(self, by):
        return Shape(self.sides + by)


def grow_by_one(shape):
    assert isinstance(shape, Shape)
    return shape.grow(1)


def test_instances_of_users_class_travel_to_job_and_back(knot_of):
    result = knot_of(grow_by_one).map([Shape(3), Shape(4)]).result(LONG)
    assert result == [Shape(4), Shape(5)]
    assert type(result[0]) is Shape


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def make_adder(base):
    def add_base(x):
        return base + x

    return add_base


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (factorial, [2, 6]),
        (make_adder(100), [102, 103]),
        (lambda x: -x, [-2, -3]),
        (functools.partial(add, b=1), [3, 4]),
        (Shape(5).grow, [Shape(7), Shape(8)]),
        (pow(2, 10).__add__, [1026, 1027]),
    ],
    ids=["recursive", "closure", "lambda", "partial", "method", "builtin"],
)
def test_map_accepts_every_kind_of_callable(knot_of, function, expected):
    assert knot_of(function).map([2, 3]).result(LONG) == expected


def test_class_of_input_from_local_module_travels_to_job_and_back(knot_of, tmp_path, monkeypatch):
    source = "class Circle:\n    def __init__(self, r): self.r = r\n    def grow(self): return Circle(self.r + 1)\n"
    (tmp_path / "shapes_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    circle = importlib.import_module("shapes_of_a_test").Circle
    (result,) = knot_of(lambda c: c.grow()).map([circle(1)]).result(LONG)
    assert (type(result), result.r) == (circle, 2)


def print_to_both_streams(word):
    print(f"out {word}")
    print(f"error {word}", file=sys.stderr)
    return word


@pytest.mark.contract
def test_job_returns_log_lines_of_element(knot_of):
    future = knot_of(print_to_both_streams).map(["a", "b"])
    future.result(LONG)
    until(lambda: len(list(future.job.logs(1))) == 2)
    assert sorted(future.job.logs(1)) == ["error b", "out b"]
    assert len(future.job.log_urls) == 2


def wait_at(address):
    with socket.create_connection(tuple(address), timeout=LONG) as connection:
        connection.recv(1)


def print_and_wait(address):
    print("before")
    wait_at(address)
    return "after"


def test_job_returns_log_lines_while_it_runs(knot_of, gate):
    future = knot_of(print_and_wait).map([gate.address])
    until(lambda: list(future.job.logs()) == ["before"])
    assert not future.done()
    assert future.job.status == "RUNNING"
    gate.open()
    assert future.result(LONG) == ["after"]


@pytest.mark.contract
def test_cancel_ends_job_and_keeps_results(knot_of):
    future = knot_of(nap).map([0, 600, 600])
    assert future[0].result(LONG) == 0
    assert future.cancel()
    assert future.cancelled()
    until(lambda: future.job.status == "FAILED")
    assert future[0].result() == 0


def test_job_of_cancelled_future_reads_its_outcomes_again(process_knot_of):
    future = process_knot_of(nap).map([0, 600, 600])
    assert future[0].result(LONG) == 0
    assert future.cancel()
    second = future.job.future()
    assert second[0].result(LONG) == 0
    assert isinstance(second[1].exception(LONG), ck.JobCancelledError)
    with pytest.raises(ck.JobCancelledError, match="Cancelled by its future"):
        future.job.result(LONG)
    assert future.job.future() is second
    assert future.cancelled()


def test_cancel_keeps_stored_results_that_collector_has_not_seen(process_knot_of, cloud):
    """The collector's listings wait from before the first result is stored until the map is cancelled."""
    cancelled, is_waiting = threading.Event(), threading.Event()

    def hold(**_):
        if threading.current_thread().name == "cloudknot-collector":
            is_waiting.set()
            cancelled.wait(LONG)

    events = cloud.door.client("s3").meta.events
    events.register("before-call.s3.ListObjectsV2", hold)
    try:
        future = process_knot_of(nap).map([0, 600])
        assert is_waiting.wait(LONG)
        until(lambda: list(future.job._view.list_packs(0)))
        assert not future[0].done()
        assert future.cancel()
    finally:
        cancelled.set()
        events.unregister("before-call.s3.ListObjectsV2", hold)
    assert [future[0].result(0), future[1].cancelled()] == [0, True]


def test_terminated_job_raises_job_cancelled_error_with_reason(knot_of):
    future = knot_of(nap).map([600, 600])
    until(lambda: future.job.status in LIVE_STATES)
    future.job.terminate("enough")
    with pytest.raises(ck.JobCancelledError, match="enough"):
        future.result(LONG)


def test_future_calls_its_callbacks_and_works_with_as_completed(process_knot_of):
    called = threading.Event()
    future = process_knot_of(nap).map([0.4, 0.0])
    future.add_done_callback(lambda done: called.set())
    order = [element.result() for element in as_completed(future, LONG)]
    assert sorted(order) == [0.0, 0.4]
    assert called.wait(LONG)


def test_view_jobs_prints_table_with_status(process_knot_of, capsys):
    knot = process_knot_of(square)
    future = knot.map([1])
    future.result(LONG)
    until(lambda: future.job.status == "SUCCEEDED")
    knot.view_jobs()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Job", "ID", "Name", "Status"]
    assert [future.job.job_id, future.job.name, "SUCCEEDED"] in [line.split() for line in lines]


def test_jobs_lists_runs_of_knot_in_order(process_knot_of):
    knot = process_knot_of(square)
    futures = [knot.map([n]) for n in range(3)]
    assert [job.job_id for job in knot.jobs[-3:]] == [future.job.job_id for future in futures]
    assert knot.jobs[-1].result(LONG) == [4]
    until(lambda: knot.jobs[-1].status == "SUCCEEDED")
    assert knot.jobs[-1].done


def test_batch_job_finds_run_by_its_id(process_knot_of, cloud):
    future = process_knot_of(square).map([5, 6])
    assert ck.BatchJob(future.job.job_id, cloud=cloud).result(LONG) == [25, 36]
    with pytest.raises(ck.ResourceDoesNotExistException, match="cloudknot has no job 'none'"):
        ck.BatchJob("none", cloud=cloud).result(LONG)


def test_knot_with_changed_function_runs_new_function(place):
    assert place.knot("changing", lambda x: x + 1).map([1]).result(LONG) == [2]
    assert place.knot("changing", lambda x: x + 2).map([1]).result(LONG) == [3]


def test_running_map_keeps_its_function(place, gate):
    address = gate.address

    def old(x):
        wait_at(address)
        return "old"

    future = place.knot("changing-2", old).map([1, 2, 3, 4])
    new = place.knot("changing-2", lambda x: "new")
    gate.open()
    assert future.result(LONG) == ["old"] * 4
    assert new.map([1]).result(LONG) == ["new"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda knot: knot.map(5), "iterable"),
        (lambda knot: knot.map([1, 2, threading.Lock()]), "Element 2 .*lock"),
        (lambda knot: knot.map([1], starmap=True), "Element 0 .*starmap"),
        (lambda knot: knot.map([1], chunksize=0), "chunksize"),
        (lambda knot: knot.map([1], max_threads=0), "max_threads"),
        (lambda knot: knot.map([1], job_type="both"), "job_type"),
        (lambda knot: knot.map([1], env_vars={"AWS_BATCH_JOB_ID": "x"}), "AWS_BATCH"),
        (lambda knot: knot.map([1], env_vars=[{"nome": "x"}]), "env_vars"),
        (lambda knot: knot.map(range(20_001), chunksize=2), "chunksize"),
        (lambda knot: knot.map([1], memory=3), "memory"),
        (lambda knot: knot.map([1], vcpus=0), "vcpus"),
        (lambda knot: knot.map([1], vcpus=257), r"vcpus=257 .*max_vcpus=256"),
        (lambda knot: knot.map([1], timeout=59), "timeout"),
        (lambda knot: knot.map([1], retries=11), "retries"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_submitted(process_knot_of, call, message):
    knot = process_knot_of(square)
    before = len(knot.jobs)
    with pytest.raises(CloudknotInputError, match=message):
        call(knot)
    assert len(knot.jobs) == before


def resources_of(job):
    """Return the vCPUs and the memory of a job, by Batch's names."""
    return {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}


@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_map_overrides_resources_of_knots_job_definition(knot_of, job_type):
    knot = knot_of(square)
    default = knot.map([1, 2], job_type=job_type)
    override = knot.map([1, 2], job_type=job_type, memory=900, vcpus=2, timeout=70, retries=4)
    assert (default.result(LONG), override.result(LONG)) == ([1, 4], [1, 4])
    before, after = default.job._view.describe_jobs(), override.job._view.describe_jobs()
    assert {job["jobDefinition"] for job in after} == {before[0]["jobDefinition"]}
    assert [resources_of(job) for job in before] == [{"VCPU": "1", "MEMORY": "1900"}] * len(before)
    assert [resources_of(job) for job in after] == [{"VCPU": "2", "MEMORY": "900"}] * len(after)
    assert {job["timeout"]["attemptDurationSeconds"] for job in after} == {70}
    assert (default.job.manifest.attempts, override.job.manifest.attempts) == (1, 4)
    assert override.job._run.rounds.first.stored_choices["overrides"] == {
        "memory": 900,
        "vcpus": 2,
        "timeout": 70,
        "retries": 4,
    }


@pytest.mark.parametrize("elements", [[1], [1, 2]])
def test_waiting_job_reports_its_cause_and_warns_once(cloud, caplog, capsys, elements):
    name = f"stuck-{len(elements)}"
    # The second knot of this name reduces the queue to two vCPUs. The first object still allows eight.
    generous = ck.Knot(name=name, func=square, max_vcpus=8, cloud=cloud)
    ck.Knot(name=name, func=square, max_vcpus=2, cloud=cloud)
    future = generous.map(elements, vcpus=4)
    until(lambda: "asks for more vCPUs" in caplog.text)
    number = len(elements)
    timeout_message = (
        rf"Progress: 0/{number}, {number} waiting\. Its job is waiting, because it asks for more vCPUs.*\. "
        r"The job keeps running\. Find it in any session: "
    )
    with pytest.raises(ck.CKTimeoutError, match=timeout_message):
        future.result(0.1)
    assert future.job.status_reason.startswith(f"{future.job.name}: a job is waiting, because it asks for more vCPUs")
    with pytest.raises(ck.CKTimeoutError, match="Its job is waiting, because it asks for more vCPUs"):
        future[0].result(0.1)
    generous.view_jobs()
    assert f"{future.job.name}: a job is waiting, because it asks for more vCPUs" in capsys.readouterr().out
    future.cancel()
    assert future.job.status_reason == "Cancelled by its future"
    generous.view_jobs()
    assert "a job is waiting" not in capsys.readouterr().out
    warnings = [record.getMessage() for record in caplog.records if record.getMessage().startswith(future.job.name)]
    (warning,) = (text for text in warnings if "a job is waiting" in text)
    assert "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE" in warning
    several = generous.map([3, 4], vcpus=4, job_type="independent")
    until(lambda: several.job.status == "RUNNABLE")
    generous.view_jobs()
    assert f"{several.job.name}: a job is waiting, because it asks for more vCPUs" in capsys.readouterr().out
    several.cancel()


@pytest.mark.parametrize("elements", [[1], range(40)])
def test_queue_ends_job_that_can_never_start_and_error_names_cause(cloud, elements):
    """On AWS the queue ends such a job after ten minutes. Here its limit is one second."""
    name = f"never-{len(elements)}"
    # The second knot of this name reduces the queue to two vCPUs. The first object still allows eight.
    generous = ck.Knot(name=name, func=square, max_vcpus=8, cloud=cloud)
    ck.Knot(name=name, func=square, max_vcpus=2, cloud=cloud)
    reason = "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"
    limit = {"reason": reason, "state": "RUNNABLE", "maxTimeSeconds": 1, "action": "CANCEL"}
    cloud.call("batch", "update_job_queue", jobQueue=generous.job_queue, jobStateTimeLimitActions=[limit])
    (queue,) = cloud.call("batch", "describe_job_queues", jobQueues=[generous.job_queue])["jobQueues"]
    assert queue["jobStateTimeLimitActions"] == [limit]
    future = generous.map(elements, vcpus=4)
    reduced = future.reduce(sum)
    for index, element in enumerate(future):
        error = element.exception(LONG)
        assert isinstance(error, ck.JobStuckError)
        assert error.index == index
        assert error.reason == f"Canceled by JobStateTimeLimit action due to reason: {reason}"
        assert "asks for more vCPUs than max_vcpus allows its queue" in str(error)
    assert isinstance(reduced.exception(LONG), ck.DependencyFailedError)
    assert future.job.status == "FAILED"
    # The queue ends the child job at its head only. The session ends the others, since they request the same vCPUs.
    assert [job["isTerminated"] for job in future.job._view.describe_jobs()] == [len(elements) > 1]
    assert ck.BatchJob(future.job.job_id, cloud=cloud).future().exception(LONG).reason == error.reason


def test_queue_has_time_limits_of_its_template(cloud):
    knot = ck.Knot(name="limits", func=square, cloud=cloud)
    (queue,) = cloud.call("batch", "describe_job_queues", jobQueues=[knot.job_queue])["jobQueues"]
    assert [action["maxTimeSeconds"] for action in queue["jobStateTimeLimitActions"]] == [600, 600, 86400]
