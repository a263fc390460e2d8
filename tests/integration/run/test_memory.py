"""The session holds the results of a map only as long as its user does."""

import gc
import os
import weakref

from tests.helpers.waiting import LONG, until


def numbers_below(count):
    return set(range(count))


def test_results_live_as_long_as_caller_holds_them(process_knot_of):
    knot = process_knot_of(numbers_below)
    future = knot.map([1, 2, 3], chunksize=3)
    values = future.result(LONG)
    element, job, result = future[2], future.job, weakref.ref(values[0])
    assert job.future() is future
    # The garbage collector runs seldom, so it must not be needed.
    gc.disable()
    try:
        del values, future
        assert result() == {0}
        assert element.result() == {0, 1, 2}
        del element
        assert until(lambda: result() is None)
    finally:
        gc.enable()
    assert knot.jobs[-1] is job
    assert job.done
    assert job.result(LONG) == [{0}, {0, 1}, {0, 1, 2}]
    assert job.retry_failed().result(LONG) == [{0}, {0, 1}, {0, 1, 2}]


def test_failed_elements_of_dropped_future_are_retried(process_knot_of, tmp_path):
    flag = tmp_path / "flag"
    job = process_knot_of(fails_without).map([str(flag)] * 2, chunksize=2).job
    assert until(lambda: job.done and job._current_collection().future is None)
    flag.touch()
    assert job.retry_failed().result(LONG) == [str(flag)] * 2


def fails_without(path):
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return path
