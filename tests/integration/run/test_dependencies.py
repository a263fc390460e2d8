"""Maps over the results of other maps, and `reduce`: the dependencies of their Batch jobs, and how failures propagate.

The embedded cloud runs the jobs. A gate holds a source up until its dependents are submitted.
"""

import functools
import operator
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from types import FunctionType
from urllib.parse import unquote, urlsplit

import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError, DependencyFailedError
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

LONG = 120


class Connections:
    """The connections of a client, with the paths of the objects that it reads."""

    def __init__(self, connections, read):
        self._connections, self._read = connections, read

    def send(self, request):
        url = urlsplit(request.url)
        if request.method == "GET" and "list-type" not in url.query:
            self._read.append(unquote(url.path))
        return self._connections.send(request)


class Calls:
    """The calls of a cloud's clients, as ``Operation key``, and the paths of the objects that the session reads."""

    def __init__(self, cloud):
        self.seen, self.read = [], []
        endpoint = cloud.door.client("s3")._endpoint
        endpoint.http_session = Connections(endpoint.http_session, self.read)
        plain = cloud.door._plain_requests()
        plain._send = partial(self._note_plain, plain._send)
        self._lock = threading.Lock()
        for service in ("s3", "batch"):
            cloud.door.client(service).meta.events.register("provide-client-params", self._note)

    def _note(self, params, model, **_):
        with self._lock:
            self.seen.append(f"{model.name} {params.get('Key', params.get('Prefix', ''))}")

    def _note_plain(self, send, method, bucket, key, *rest):
        """Note the path of a request that bypasses botocore's client."""
        if method == "GET":
            self.read.append(f"/{bucket}/{key}")
        with self._lock:
            self.seen.extend([f"PutObject {key}"] if method == "PUT" else ())
        return send(method, bucket, key, *rest)


def calls_for_outputs(calls, job):
    """Return the calls for outputs during a submission, without the first listing of the new collector."""
    own = f"ListObjectsV2 {job.keys.outputs}"
    return [call for call in calls if "outputs" in call and call != own]


@pytest.fixture
def own_cloud(cloud):
    """Return the same cloud with clients of its own, so that only their calls are counted."""
    return ck.LocalCloud(cloud.directory)


# Defined here and not in `tests.helpers`: `reduce` refuses functions from modules that the image of the map lacks.
def double(x):
    return 2 * x


def nap(seconds):
    time.sleep(seconds)
    return seconds


def add_one(x, more=0):
    return x + 1 + more


def pair(x):
    return x, 10


def held(address, x):
    """Return ``x`` when the gate is open."""
    with socket.create_connection(tuple(address), timeout=120) as connection:
        connection.recv(1)
    return x


def held_odd_fails(address, x):
    return odd_fails(held(address, x))


def odd_fails(x):
    if x % 2:
        raise ArithmeticError(f"{x} is odd")
    return x


def depends_on(future):
    """Return the dependencies of each Batch job of a map."""
    return [job["dependsOn"] for job in future.job._view.describe_jobs()]


def test_dependent_map_reads_its_source_in_s3_and_session_reads_no_result(cloud, own_cloud, gate):
    first_knot = ck.Knot(name="first", func=held, cloud=cloud)
    second_knot = ck.Knot(name="second", func=add_one, cloud=own_cloud)
    first = first_knot.map([(gate.address, 2 * x) for x in range(10)], starmap=True, chunksize=4)
    calls = Calls(own_cloud)
    second = second_knot.map(first)
    submission = list(calls.seen)
    gate.open()
    assert second.result(LONG) == [2 * x + 1 for x in range(10)]
    prefix = second.job.keys.prefix
    assert {call for call in submission if call.startswith("PutObject")} == {
        f"PutObject {prefix}/manifest.json",
        f"PutObject {prefix}/submission.json",
    }
    # The session reads the run's outputs only to check that it was not clobbered.
    assert any(second.job.keys.outputs in path for path in calls.read)
    read = {path for path in calls.read if first.job.keys.prefix in path}
    assert read == {f"/{own_cloud.bucket}/{first.job.keys.manifest}"}
    assert not calls_for_outputs(submission, second.job)
    assert second.job.manifest.chunksize == 4
    assert depends_on(second) == [[{"jobId": first.job.job_id, "type": "N_TO_N"}]]


@pytest.mark.parametrize(
    ("source_choices", "choices", "dependency_types"),
    [
        ({"chunksize": 3}, {"chunksize": 3}, ["N_TO_N"]),
        ({"chunksize": 3}, {"chunksize": 2}, [None]),
        ({"chunksize": 2}, {"chunksize": 7}, [None]),
        ({"chunksize": 100}, {}, [None]),
        ({"job_type": "independent"}, {}, [None] * 7),
        ({}, {"job_type": "independent"}, [None]),
    ],
)
def test_dependent_map_may_have_other_chunks_than_its_source(
    process_knot_of, gate, source_choices, choices, dependency_types
):
    first = process_knot_of(held).map([(gate.address, x) for x in range(7)], starmap=True, **source_choices)
    second = process_knot_of(add_one).map(first, **choices)
    assert [[entry.get("type") for entry in entries] for entries in depends_on(second)] == [dependency_types] * len(
        second.job.job_ids
    )
    gate.open()
    assert second.result(LONG) == [1, 2, 3, 4, 5, 6, 7]


def test_independent_job_waits_only_for_job_of_its_element(process_knot_of, gate):
    first = process_knot_of(held).map([(gate.address, x) for x in range(4)], starmap=True, job_type="independent")
    second = process_knot_of(add_one).map(first, job_type="independent")
    assert depends_on(second) == [[{"jobId": job_id}] for job_id in first.job.job_ids]
    gate.open()
    assert second.result(LONG) == [1, 2, 3, 4]


@pytest.mark.contract
def test_dependent_map_takes_starmap_and_kwargs(knot_of):
    first = knot_of(pair).map([1, 2])
    assert knot_of(add_one).map(first, starmap=True).result(LONG) == [12, 13]
    assert knot_of(add_one).map(knot_of(double).map([1, 2]), kwargs={"more": 100}).result(LONG) == [103, 105]


def test_knot_maps_over_its_own_results(process_knot_of):
    knot = process_knot_of(double)
    assert knot.map(knot.map(knot.map([1]))).result(LONG) == [8]


def test_map_over_empty_map_returns_empty_list(process_knot_of):
    knot = process_knot_of(double)
    assert knot.map(knot.map([])).result() == []


def test_map_over_ended_job_waits_for_no_job(process_knot_of, cloud):
    first = process_knot_of(double).map(range(5))
    first.result(LONG)
    until(lambda: first.job.status == "SUCCEEDED")
    second = process_knot_of(add_one).map(ck.BatchJob(first.job.job_id, cloud=cloud), chunksize=2)
    assert depends_on(second) == [[]]
    assert second.result(LONG) == [1, 3, 5, 7, 9]


def test_two_maps_share_source_and_third_depends_on_both(process_knot_of):
    source = process_knot_of(double).map([1, 2, 3])
    left, right = process_knot_of(add_one).map(source), process_knot_of(double).map(source)
    last = process_knot_of(add_one).map(left, depends_on=[right])
    assert last.result(LONG) == [4, 6, 8]
    assert right.result(LONG) == [4, 8, 12]


def test_dependent_map_reads_large_results_of_its_source(knot_of):
    first = knot_of(bytes).map([9_000_000, 5, 9_000_001], chunksize=3)
    assert knot_of(len).map(first, chunksize=2).result(LONG) == [9_000_000, 5, 9_000_001]


def test_failed_child_of_running_source_fails_only_its_own_dependents(process_knot_of, gate):
    first = process_knot_of(held_odd_fails).map([(gate.address, x) for x in (0, 2, 3, 4)], starmap=True, chunksize=2)
    second = process_knot_of(add_one).map(first)
    gate.open()
    assert [element.result(LONG) for element in second[:2]] == [1, 3]
    for element in second[2:]:
        with pytest.raises(DependencyFailedError, match=f"did not run.*Failed: .*{first.job.job_id}:1") as caught:
            element.result(LONG)
        assert (caught.value.index, caught.value.job_id) == (element.index, f"{second.job.job_id}:1")


def test_failure_of_source_with_other_chunks_fails_all_dependents(process_knot_of, gate):
    first = process_knot_of(held_odd_fails).map([(gate.address, x) for x in (0, 3, 4, 6)], starmap=True, chunksize=2)
    second = process_knot_of(add_one).map(first, chunksize=1)
    gate.open()
    with pytest.raises(DependencyFailedError, match=f"Failed: {first.job.name}, job {first.job.job_id}"):
        second.result(LONG)


def test_map_over_ended_source_raises_exceptions_of_failed_elements_only(process_knot_of):
    first = process_knot_of(odd_fails).map([0, 3, 4], chunksize=3)
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    second = process_knot_of(add_one).map(first)
    with pytest.raises(ArithmeticError, match="3 is odd") as caught:
        second[1].result(LONG)
    assert f"element 1 of the map of {first.job.manifest.knot!r} (job {first.job.job_id})" in caught.value.__notes__[0]
    assert "in odd_fails" in str(caught.value.__cause__)
    until(lambda: second.job.status == "FAILED")
    third = process_knot_of(double).map(second)
    assert [third[0].result(LONG), third[2].result(LONG)] == [2, 10]
    fourth = process_knot_of(double).map(second)
    with pytest.raises(ArithmeticError) as caught:
        fourth[1].result(LONG)
    assert first.job.job_id in caught.value.__notes__[0]


def die(x):
    if x:
        os._exit(9)
    return x


def exit_or_raise(x):
    raise SystemExit(4) if x else LookupError(threading.Lock())


def test_element_names_its_source_element_that_was_killed(process_knot_of):
    first = process_knot_of(die).map([0, 1])
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    with pytest.raises(
        DependencyFailedError, match=rf"element 1 of the map .*job {first.job.job_id}.* which has no result\."
    ):
        process_knot_of(double).map(first).result(LONG)


def test_element_names_its_source_element_that_exited_or_raised(process_knot_of):
    first = process_knot_of(exit_or_raise).map([0, 1])
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    second = process_knot_of(double).map(first)
    with pytest.raises(ck.ElementError, match=r"element 1 of the map .* which called sys.exit\(4\)"):
        second[1].result(LONG)
    with pytest.raises(ck.ElementError, match=r"element 0 of the map .* raised LookupError"):
        second[0].result(LONG)


def test_cancelling_first_map_of_chain_fails_all_later_ones(process_knot_of):
    first = process_knot_of(nap).map([600, 600])
    second = process_knot_of(double).map(first)
    third = process_knot_of(add_one).map(second, chunksize=2)
    assert first.cancel()
    with pytest.raises(DependencyFailedError, match=first.job.job_id):
        second.result(LONG)
    with pytest.raises(DependencyFailedError, match=second.job.job_id):
        third.result(LONG)


def test_map_that_depends_on_more_than_twenty_jobs_is_refused(process_knot_of, cloud):
    # Batch accepts at most 20 dependencies for a job.
    first = process_knot_of(nap).map([600] * 21, job_type="independent")
    knot = process_knot_of(double)
    before = len(knot.jobs)
    with pytest.raises(CloudknotInputError, match="21 Batch jobs"):
        knot.map(first)
    first.cancel()
    assert len(knot.jobs) == before


def mean(values, digits=1):
    return round(sum(values) / len(values), digits)


def test_reduce_calls_its_function_once_with_all_results(cloud, own_cloud):
    future = ck.Knot(name="to-reduce", func=double, cloud=cloud).map(range(10), chunksize=4)
    calls = Calls(own_cloud)
    reduced = ck.BatchJob(future.job.job_id, cloud=own_cloud).reduce(sum)
    submitted = list(calls.seen)
    assert reduced.result(LONG) == 90
    assert not calls_for_outputs(submitted, reduced.job)
    assert (len(reduced), reduced[0].result(), reduced.job.result()) == (1, 90, 90)
    assert "arrayProperties" not in reduced.job._view.describe_jobs()[0]


def test_reduce_takes_kwargs_and_resources_of_its_own(process_knot_of):
    knot = process_knot_of(double)
    reduced = knot.map([1, 2, 4]).reduce(mean, kwargs={"digits": 0}, memory=900, vcpus=2, timeout=90, retries=2)
    assert reduced.result(LONG) == 5.0
    (job,) = reduced.job._view.describe_jobs()
    assert {"type": "MEMORY", "value": "900"} in job["container"]["resourceRequirements"]
    assert (job["timeout"]["attemptDurationSeconds"], reduced.job.manifest.attempts) == (90, 2)
    assert knot.jobs[-1].result() == 5.0


def test_reduce_takes_partial_or_knot_and_its_result_can_be_mapped(knot_of):
    future = knot_of(double).map([1, 2, 3])
    assert future.reduce(functools.partial(functools.reduce, operator.add)).result(LONG) == 12
    by_knot = future.reduce(knot_of(mean), kwargs={"digits": 2})
    assert by_knot.result(LONG) == 4.0
    assert knot_of(add_one).map(by_knot).result(LONG) == [5.0]
    assert by_knot.reduce(len).result(LONG) == 1


@pytest.mark.parametrize(
    ("func", "choices", "text"),
    [
        (operator.add, {}, r"functools\.reduce, add"),
        (mean, {"kwargs": {"places": 1}}, "places"),
        (lambda values: __import__("numpy").mean(values), {"requirements": ["numpy"]}, "needs numpy"),
        (mean, {"memory": 3}, "memory"),
        (mean, {"vcpus": 1000}, "max_vcpus"),
        (5, {}, "callable"),
    ],
)
def test_reduce_refuses_invalid_arguments_and_submits_nothing(process_knot_of, func, choices, text):
    knot = process_knot_of(double)
    future = knot.map([1])
    before = len(knot.jobs)
    with pytest.raises(CloudknotInputError, match=text):
        future.reduce(func, **choices)
    assert len(knot.jobs) == before


def uses_packaging(values):
    import packaging.version

    return str(packaging.version.Version("1")), sum(values)


def test_reduce_refuses_function_with_requirements_that_image_lacks(cloud):
    bare = ck.Knot(name="without-packaging", func=double, cloud=cloud).map([1])
    with pytest.raises(
        CloudknotInputError, match=r"The function 'uses_packaging' needs packaging==.* does not have\..*reduce\(Knot"
    ):
        bare.reduce(uses_packaging)
    with pytest.raises(CloudknotInputError, match=r"may not have\..* Another session .*requirements=\[\]"):
        ck.BatchJob(bare.job.job_id, cloud=cloud).reduce(uses_packaging)
    complete = ck.Knot(name="with-packaging", func=double, requirements=["packaging"], cloud=cloud).map([1])
    assert complete.reduce(uses_packaging).result(LONG) == ("1", 2)


def uses_worker_packages(values):
    import boto3
    import botocore.session
    import cloudpickle
    import dateutil

    return [module.__name__ for module in (boto3, botocore.session, cloudpickle, dateutil)], sum(values)


def test_reduce_takes_function_that_imports_packages_of_worker(cloud, process_knot_of):
    future = process_knot_of(double).map([1])
    expected = (["boto3", "botocore.session", "cloudpickle", "dateutil"], 2)
    assert future.reduce(uses_worker_packages).result(LONG) == expected
    # Another session does not know the image, but every image has the worker. The copy is of no local module.
    travelling = FunctionType(uses_worker_packages.__code__, {"__name__": "elsewhere"})
    assert ck.BatchJob(future.job.job_id, cloud=cloud).reduce(travelling).result(LONG) == expected


def test_reduce_of_failed_map_names_map(process_knot_of, gate):
    future = process_knot_of(held_odd_fails).map([(gate.address, x) for x in (0, 1)], starmap=True)
    reduced = future.reduce(sum)
    gate.open()
    with pytest.raises(DependencyFailedError, match=future.job.job_id):
        reduced.result(LONG)
    until(lambda: future.job.status == "FAILED")
    with pytest.raises(ArithmeticError, match="1 is odd") as caught:
        future.reduce(sum).result(LONG)
    assert future.job.job_id in caught.value.__notes__[0]


def failing(values):
    raise LookupError(len(values))


def test_exception_of_reduce_function_is_raised_with_its_traceback(place, knot_of):
    with pytest.raises(LookupError) as caught:
        knot_of(double).map([1, 2]).reduce(failing).result(LONG)
    assert ", in failing\n" in str(caught.value.__cause__)
    # A reduce function travels without its source: a process finds the file, a container has none.
    if not place.choices:
        assert "raise LookupError(len(values))" in str(caught.value.__cause__)


def test_empty_map_cannot_be_reduced(process_knot_of):
    with pytest.raises(CloudknotInputError, match="empty map"):
        process_knot_of(double).map([]).reduce(sum)


def test_chain_completes_after_its_session_has_ended(cloud, tmp_path):
    submit = """
        import os, sys, time
        import cloudknot as ck

        def held(path, x):
            while not os.path.exists(path):
                time.sleep(0.02)
            return x * 10

        def add_one(x):
            return x + 1

        elements = [(sys.argv[1], x) for x in (1, 2, 3)]
        first = ck.Knot(name="shut-1", func=held).map(elements, starmap=True)
        second = ck.Knot(name="shut-2", func=add_one).map(first)
        print(second.reduce(sum).job.job_id, second.done())
    """
    script, gate = tmp_path / "submit.py", tmp_path / "go"
    script.write_text(textwrap.dedent(submit))
    environment = {
        **os.environ,
        "CLOUDKNOT_LOCAL_DIR": str(cloud.directory),
        "CLOUDKNOT_CLOUD": "local",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, script, gate]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG)
    gate.touch()
    assert result.returncode == 0, result.stderr
    job_id, ended = result.stdout.split()
    assert ended == "False"
    mapped, reduced = ck.Knot(name="shut-2", cloud=cloud).jobs[-2:]
    assert reduced.job_id == job_id
    assert reduced.result(LONG) == 63
    assert mapped.result(LONG) == [11, 21, 31]


def odd_needs_file(path, x):
    """Return ``x``. Fail for odd ones as long as the file does not exist."""
    if x % 2 and not os.path.exists(path):
        raise FileNotFoundError(path)
    return x


def held_odd_needs_file(address, path, x):
    return held(address, odd_needs_file(path, x))


@pytest.fixture
def process_knot(cloud):
    """Return a function that creates a knot on the process runner, so that jobs can read this machine's files."""
    return lambda func: ck.Knot(name=f"files-{func.__name__}".replace("_", "-"), func=func, cloud=cloud)


def test_retry_of_dependents_succeeds_after_retry_of_their_source(process_knot, tmp_path):
    file = tmp_path / "exists"
    first = process_knot(odd_needs_file).map([(str(file), x) for x in range(6)], starmap=True, chunksize=3)
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    second = process_knot(double).map(first)
    total = second.reduce(sum)
    assert isinstance(second.exception(LONG), FileNotFoundError)
    assert total.exception(LONG) is not None
    file.touch()
    assert first.retry_failed().result(LONG) == [0, 1, 2, 3, 4, 5]
    until(lambda: second.job.status == "FAILED" and total.job.status == "FAILED")
    assert second.retry_failed().result(LONG) == [0, 2, 4, 6, 8, 10]
    assert total.retry_failed().result(LONG) == 30
    assert process_knot(add_one).map(first, chunksize=4).result(LONG) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("job_type", ["array", "independent"])
def test_map_over_run_waits_for_its_running_retry(process_knot, tmp_path, gate, job_type):
    file = tmp_path / "exists"
    elements = [(gate.address, str(file), x) for x in (1, 3)]
    first = process_knot(held_odd_needs_file).map(elements, starmap=True, job_type=job_type)
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    file.touch()
    retry = first.retry_failed()
    second = process_knot(double).map(first, job_type=job_type)
    assert depends_on(second) == [[{"jobId": job_id} for job_id in retry.job.job_ids]] * len(second.job.job_ids)
    gate.open()
    assert second.result(LONG) == [2, 6]
