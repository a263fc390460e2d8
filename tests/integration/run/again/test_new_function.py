"""Failed elements run again with the present function of their knot: `retry_failed(knot=...)`."""

import logging
import socket

import pytest

import cloudknot as ck
from tests.helpers import functions
from tests.helpers.waiting import LONG, until


def odd_fail(x):
    if x % 2:
        raise KeyError(x)
    return x


def tens(x):
    return 10 * x


def hundreds(x):
    return 100 * x


def fail_again(x):
    raise OSError(x)


def scaled(x, scale=1):
    return x * scale


def with_level(x):
    return functions.square(x), functions.LEVEL


def needs_two(x, y):
    return x + y


def added(*numbers):
    if sum(numbers) % 2:
        raise KeyError(numbers)
    return sum(numbers)


def three(x, y, z):
    return [x, y, z]


def total(values):
    return sum(values)


def no_total(values):
    raise KeyError("no total")


def knot_of(cloud, func, name="again", **choices):
    return ck.Knot(name=name, func=func, cloud=cloud, **choices)


@pytest.fixture
def failed(cloud):
    """Return a map with five elements, of which 1 and 3 have failed."""
    future = knot_of(cloud, odd_fail).map(range(5))
    assert isinstance(future.exception(LONG), KeyError)
    return future


def warnings_of(caplog):
    """Return the warnings that retries have logged."""
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in texts if "retry" in text]


def test_change_of_module_between_knot_and_retry_is_named(failed, cloud, monkeypatch):
    monkeypatch.setattr(functions, "LEVEL", 5, raising=False)
    knot = knot_of(cloud, with_level)
    monkeypatch.setattr(functions, "LEVEL", 6)
    with pytest.warns(UserWarning, match=r"tests\.helpers\.functions\.LEVEL changed after the knot 'again' was made"):
        future = failed.retry_failed(knot=knot)
    assert future.result(LONG) == [0, (1, 5), 2, (9, 5), 4]


def test_fixed_function_makes_only_missing_results_and_record_names_both(failed, cloud):
    future = failed.retry_failed(knot=knot_of(cloud, tens))
    assert future.result(LONG) == [0, 10, 2, 30, 4]
    for job in (future.job, ck.BatchJob(failed.job.job_id, cloud=ck.LocalCloud(cloud.directory))):
        uses = job.functions()
        assert [(use.function, use.rounds, use.elements) for use in uses] == [
            ("odd_fail", [0], [0, 2, 4]),
            ("tens", [1], [1, 3]),
        ]
        assert len({use.digest for use in uses}) == len({use.job_definition for use in uses}) == 2
        assert all(use.image.endswith(f":{use.digest}") for use in uses)
        assert job.result(LONG) == [0, 10, 2, 30, 4]


def test_default_runs_earlier_function_and_says_so_once(failed, cloud, caplog):
    knot_of(cloud, tens)
    caplog.clear()
    again = failed.retry_failed()
    assert isinstance(again.exception(LONG), KeyError)
    assert warnings_of(caplog) == [
        "The retry runs the function of the map, not the newer one of the knot 'again'. To run that one: "
        "retry_failed(knot='again')."
    ]
    assert [use.elements for use in again.job.functions()] == [[0, 2, 4]]


def test_unchanged_knot_gives_no_warning(failed, caplog):
    caplog.clear()
    failed.retry_failed().exception(LONG)
    assert warnings_of(caplog) == []


def test_later_retries_keep_newest_function_and_a_name_stands_for_the_knot(failed, cloud):
    knot_of(cloud, fail_again)
    second = failed.retry_failed(knot="again")
    assert isinstance(second.exception(LONG), OSError)
    until(lambda: second.job.status == "FAILED")
    # Another session, which knows only the id, goes on with the function of the newest round.
    elsewhere = ck.BatchJob(failed.job.job_id, cloud=ck.LocalCloud(cloud.directory))
    assert isinstance(elsewhere.retry_failed().exception(LONG), OSError)
    knot_of(cloud, hundreds)
    assert elsewhere.retry_failed(knot="again").result(LONG) == [0, 100, 2, 300, 4]
    assert [(use.rounds, use.elements) for use in elsewhere.functions()] == [([0], [0, 2, 4]), ([3], [1, 3])]
    # Nothing is left, so nothing is submitted, whatever the function.
    assert elsewhere.retry_failed(knot="again").result(LONG) == [0, 100, 2, 300, 4]


def test_retry_takes_memory_and_queue_of_knot_that_was_created_again(cloud):
    first = knot_of(cloud, odd_fail, name="again-created")
    failed = first.map(range(5))
    failed.exception(LONG)
    first.clobber()
    with pytest.raises(ck.CloudknotError, match=r"retry_failed\(knot='again-created'\)"):
        failed.retry_failed()
    knot = knot_of(cloud, tens, name="again-created", job_queue_name="again-other-queue", memory=1234)
    future = failed.retry_failed(knot=knot)
    (described,) = future.job._view.describe_jobs()
    assert described["jobQueue"].endswith("/again-other-queue")
    child = next(iter(future.job._view.describe([5]).values()))
    assert {"type": "MEMORY", "value": "1234"} in child["container"]["resourceRequirements"]
    assert future.result(LONG) == [0, 10, 2, 30, 4]
    # The results are gathered where the newest round ran, because the first queue is gone.
    assert future.reduce(total).result(LONG) == 46
    assert ck.BatchJob(failed.job.job_id, cloud=cloud).reduce(sum).result(LONG) == 46
    knot.clobber()


@pytest.mark.parametrize(
    ("of_map", "of_knot", "of_retry", "expected"),
    [
        ({"memory": 900}, {"memory": 700}, {}, 900),
        ({"memory": 900}, {"memory": 1100}, {}, 1100),
        ({}, {"memory": 800}, {}, 800),
        ({"memory": 900}, {"memory": 1100}, {"memory": 600}, 600),
    ],
)
def test_memory_is_that_of_the_map_or_more(cloud, of_map, of_knot, of_retry, expected):
    future = knot_of(cloud, odd_fail).map([1], **of_map)
    future.exception(LONG)
    again = future.retry_failed(knot=knot_of(cloud, tens, **of_knot), **of_retry)
    assert again.result(LONG) == [10]
    (described,) = again.job._view.describe_jobs()
    assert {"type": "MEMORY", "value": str(expected)} in described["container"]["resourceRequirements"]


def enter(address):
    with socket.create_connection(tuple(address), timeout=LONG) as connection:
        connection.recv(1)


def test_chains_and_gathered_results_run_with_new_functions(cloud, gate):
    waiting = knot_of(cloud, enter, name="again-gate").map([gate.address])
    source = knot_of(cloud, odd_fail).map(range(4), depends_on=waiting)
    doubled = knot_of(cloud, scaled, name="again-next").map(source, kwargs={"scale": 2})
    summed = doubled.reduce(no_total)
    # All of them are submitted, so each waits for the one before it.
    gate.open()
    assert isinstance(summed.exception(LONG), ck.BatchJobFailedError)
    assert source.retry_failed(knot=knot_of(cloud, tens)).result(LONG) == [0, 10, 2, 30]
    again = doubled.retry_failed(knot=knot_of(cloud, tens_of, name="again-next"))
    assert again.result(LONG) == [0, 20, 4, 60]
    gathered = summed.retry_failed(knot=knot_of(cloud, total, name="again-next"))
    assert gathered.result(LONG) == 84
    assert [use.function for use in again.job.functions()] == ["scaled", "tens_of"]


def tens_of(x, *, scale):
    return x * scale


def refusal(call):
    with pytest.raises(ck.CloudknotError) as caught:
        call()
    return str(caught.value)


def test_other_knots_are_refused_before_anything_is_submitted(failed, cloud):
    job = failed.job
    other = knot_of(cloud, tens, name="again-other")
    clobbered = knot_of(cloud, tens, name="again-clobbered")
    clobbered.clobber()
    assert "is the knot 'again-other'" in refusal(lambda: job.retry_failed(knot=other))
    assert "is the knot 'again-other'" in refusal(lambda: job.retry_failed(knot="again-other"))
    assert "knot=5 is not a knot" in refusal(lambda: job.retry_failed(knot=5))
    assert "was clobbered" in refusal(lambda: job.retry_failed(knot=clobbered))
    assert job._run.rounds.newest.number == 0
    assert not job._view.refresh()


def test_knot_of_another_cloud_is_refused(failed, own_cloud):
    knot = knot_of(own_cloud, tens)
    assert "in another cloud" in refusal(lambda: failed.retry_failed(knot=knot))
    assert failed.job._run.rounds.newest.number == 0


@pytest.mark.parametrize(
    ("elements", "choices", "func"),
    [
        ([1], {}, needs_two),
        ([1], {"kwargs": {"scale": 2}}, tens),
        ([1], {"kwargs": {"scale": 2}}, lambda x, *, other, scale: x),
        ([(1, 2, 4)], {"starmap": True}, needs_two),
        ([(1, 2), (1, 2, 4)], {"starmap": True}, three),
    ],
)
def test_function_with_other_parameters_is_refused(cloud, elements, choices, func):
    first = added if choices.get("starmap") else fail_on_scale
    future = knot_of(cloud, first, name="again-parameters").map(elements, **choices)
    future.exception(LONG)
    until(lambda: future.job.status == "FAILED")
    job = ck.BatchJob(future.job.job_id, cloud=ck.LocalCloud(cloud.directory))
    text = refusal(lambda: job.retry_failed(knot=knot_of(cloud, func, name="again-parameters")))
    assert " cannot be called with " in text or "kwargs do not fit" in text
    assert "Nothing was submitted." in text
    assert job._run.rounds.newest.number == 0


def fail_on_scale(x, scale=0):
    raise KeyError(scale)


def test_starmap_runs_function_that_takes_all_lengths(cloud):
    future = knot_of(cloud, added, name="again-parameters").map([(1, 2), (1, 2, 4), (2, 2)], starmap=True)
    future.exception(LONG)
    fixed = knot_of(cloud, lambda x, y, z=0: [x, y, z], name="again-parameters")
    assert future.retry_failed(knot=fixed).result(LONG) == [[1, 2, 0], [1, 2, 4], 4]
