"""Maps over other maps' results, from S3 to S3: what waits for what, and what becomes of failures."""

import os
import threading
import time

import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError, DependencyFailedError
from tests.waiting import until

LONG = 120


class Calls:
    """The calls of a cloud's clients, as ``service:Operation key``."""

    def __init__(self, cloud):
        self.seen = []
        self._lock = threading.Lock()
        for service in ("s3", "batch"):
            cloud.client(service).meta.events.register("provide-client-params", self._note)

    def _note(self, params, model, **_):
        with self._lock:
            self.seen.append(f"{model.name} {params.get('Key', params.get('Prefix', ''))}")


@pytest.fixture
def own_cloud(cloud):
    """The same cloud through a door of its own, so that its calls can be told apart."""
    return ck.LocalCloud(cloud.directory)


def double(x):
    return 2 * x


def add_one(x, more=0):
    return x + 1 + more


def pair(x):
    return x, 10


def nap(seconds):
    time.sleep(seconds)
    return seconds


def odd_fails(x):
    if x % 2:
        raise ArithmeticError(f"{x} is odd")
    return x


def depends_on(future):
    return [job["dependsOn"] for job in future.job.describe_jobs()]


def test_element_by_element_without_passing_through_the_client(cloud, own_cloud):
    first_knot = ck.Knot(name="first", func=double, cloud=cloud)
    second_knot = ck.Knot(name="second", func=add_one, cloud=own_cloud)
    first = first_knot.map(range(10), chunksize=4)
    calls = Calls(own_cloud)
    second = second_knot.map(first)
    submission = list(calls.seen)
    assert second.result(LONG) == [2 * x + 1 for x in range(10)]
    prefix = second.job.keys.prefix
    assert {call for call in submission if call.startswith("PutObject")} == {
        f"PutObject {prefix}/manifest.json",
        f"PutObject {prefix}/submission.json",
    }
    assert not [call for call in calls.seen if call.startswith("GetObject") and first.job.keys.prefix in call]
    assert not [call for call in submission if "outputs" in call]
    assert second.job.manifest.chunksize == 4
    assert depends_on(second) == [[{"jobId": first.job.job_id, "type": "N_TO_N"}]]


@pytest.mark.parametrize(
    ("one", "other", "kinds"),
    [
        ({"chunksize": 3}, {"chunksize": 3}, ["N_TO_N"]),
        ({"chunksize": 3}, {"chunksize": 2}, [None]),
        ({"chunksize": 2}, {"chunksize": 7}, [None]),
        ({"chunksize": 100}, {}, [None]),
        ({"job_type": "independent"}, {}, [None] * 7),
        ({}, {"job_type": "independent"}, [None]),
    ],
)
def test_any_shapes_of_maps(knot_of, one, other, kinds):
    first = knot_of(nap).map([0.5] + [0.0] * 6, **one)
    second = knot_of(add_one).map(first, **other)
    assert [[entry.get("type") for entry in entries] for entries in depends_on(second)] == [kinds] * len(
        second.job.job_ids
    )
    assert second.result(LONG) == [1.5] + [1.0] * 6


def test_independent_jobs_each_wait_for_their_own(knot_of):
    first = knot_of(nap).map([0.5] * 4, job_type="independent")
    second = knot_of(add_one).map(first, job_type="independent")
    # One that has ended is not waited for.
    for job_id, entries in zip(first.job.job_ids, depends_on(second), strict=True):
        assert entries in ([], [{"jobId": job_id}])
    assert depends_on(second)[-1]
    assert second.result(LONG) == [1.5] * 4


def test_starmap_and_keyword_arguments(knot_of):
    first = knot_of(pair).map([1, 2])
    assert knot_of(add_one).map(first, starmap=True).result(LONG) == [12, 13]
    assert knot_of(add_one).map(knot_of(double).map([1, 2]), kwargs={"more": 100}).result(LONG) == [103, 105]


def test_the_same_knot_and_a_single_element(knot_of):
    knot = knot_of(double)
    assert knot.map(knot.map(knot.map([1]))).result(LONG) == [8]


def test_an_empty_map(knot_of):
    knot = knot_of(double)
    assert knot.map(knot.map([])).result() == []


def test_a_job_of_another_session_that_has_ended(knot_of, place):
    first = knot_of(double).map(range(5))
    first.result(LONG)
    until(lambda: first.job.status == "SUCCEEDED")
    second = knot_of(add_one).map(ck.BatchJob(first.job.job_id, cloud=place.cloud), chunksize=2)
    assert depends_on(second) == [[]]
    assert second.result(LONG) == [1, 3, 5, 7, 9]


def test_a_diamond(knot_of):
    source = knot_of(double).map([1, 2, 3])
    left, right = knot_of(add_one).map(source), knot_of(double).map(source)
    last = knot_of(add_one).map(left, depends_on=[right])
    assert last.result(LONG) == [4, 6, 8]
    assert right.result(LONG) == [4, 8, 12]


def test_results_larger_than_one_request(knot_of):
    first = knot_of(bytes).map([9_000_000, 5, 9_000_001], chunksize=3)
    assert knot_of(len).map(first, chunksize=2).result(LONG) == [9_000_000, 5, 9_000_001]


def test_the_failed_child_of_a_running_source_stops_its_own_dependents_only(knot_of):
    first = knot_of(odd_fails).map([0, 2, 3, 4], chunksize=2)
    second = knot_of(add_one).map(first)
    assert [element.result(LONG) for element in second[:2]] == [1, 3]
    for element in second[2:]:
        with pytest.raises(DependencyFailedError, match=f"did not run.*{first.job.job_id}:1") as caught:
            element.result(LONG)
        assert (caught.value.index, caught.value.job_id) == (element.index, f"{second.job.job_id}:1")


def test_with_other_chunks_a_failure_stops_them_all(knot_of):
    first = knot_of(odd_fails).map([0, 3, 4, 6], chunksize=2)
    second = knot_of(add_one).map(first, chunksize=1)
    with pytest.raises(DependencyFailedError, match=f"{first.job.name}, job {first.job.job_id}"):
        second.result(LONG)


def test_of_a_source_that_has_ended_each_failure_is_passed_on_alone(knot_of):
    first = knot_of(odd_fails).map([0, 3, 4], chunksize=3)
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    second = knot_of(add_one).map(first)
    with pytest.raises(ArithmeticError, match="3 is odd") as caught:
        second[1].result(LONG)
    assert f"element 1 of the map of {first.job.manifest.knot!r} (job {first.job.job_id})" in caught.value.__notes__[0]
    assert "in odd_fails" in str(caught.value.__cause__)
    third = knot_of(double).map(second)
    assert [third[0].result(LONG), third[2].result(LONG)] == [2, 10]
    until(lambda: second.job.status == "FAILED")
    fourth = knot_of(double).map(second)
    with pytest.raises(ArithmeticError) as caught:
        fourth[1].result(LONG)
    assert first.job.job_id in caught.value.__notes__[0]


def die(x):
    if x:
        os._exit(9)
    return x


def leave(x):
    raise SystemExit(4) if x else LookupError(threading.Lock())


def test_an_element_whose_source_has_no_result_names_it(knot_of):
    first = knot_of(die).map([0, 1])
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    with pytest.raises(DependencyFailedError, match=rf"element 1 of the map .*job {first.job.job_id}.* has none"):
        knot_of(double).map(first).result(LONG)


def test_an_element_whose_source_left_names_it(knot_of):
    first = knot_of(leave).map([0, 1])
    first.exception(LONG)
    until(lambda: first.job.status == "FAILED")
    second = knot_of(double).map(first)
    with pytest.raises(ck.ElementError, match=r"element 1 of the map .* called sys.exit\(4\)"):
        second[1].result(LONG)
    with pytest.raises(ck.ElementError, match=r"element 0 of the map .* raised LookupError"):
        second[0].result(LONG)


def test_cancelling_the_first_of_a_chain_ends_all(knot_of):
    first = knot_of(nap).map([600, 600])
    second = knot_of(double).map(first)
    third = knot_of(add_one).map(second, chunksize=2)
    assert first.cancel()
    with pytest.raises(DependencyFailedError, match=first.job.job_id):
        second.result(LONG)
    with pytest.raises(DependencyFailedError, match=second.job.job_id):
        third.result(LONG)


def test_more_jobs_than_one_can_wait_for_are_refused_and_nothing_is_left(knot_of, place):
    first = knot_of(nap).map([20.0] * 21, job_type="independent")
    knot = knot_of(double)
    before = len(knot.jobs)
    with pytest.raises(CloudknotInputError, match="21 Batch jobs"):
        knot.map(first)
    first.cancel()
    assert len(knot.jobs) == before
