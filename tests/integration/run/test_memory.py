"""The session holds the results of a map only as long as its user does."""

import asyncio
import gc
import os
import weakref
from concurrent.futures import as_completed

import pytest

from tests.helpers.waiting import LONG, until


def numbers_below(count):
    return set(range(count))


USES = {
    "result": lambda future: future.result(LONG),
    "loop": lambda future: [element.result() for element in future],
    "as_completed": lambda future: [element.result() for element in future.as_completed(LONG)],
    "standard library": lambda future: [element.result() for element in as_completed(future, LONG)],
    "callback": lambda future: [future.add_done_callback(len), future.result(LONG)][-1],
    "callback of element": lambda future: [future[0].add_done_callback(repr), future.result(LONG)][-1],
    "closure": lambda future: [future.add_done_callback(lambda _: future.result()), future.result(LONG)][-1],
    "await": lambda future: asyncio.run(arrival(future)),
    "retry": lambda future: future.retry_failed().result(LONG) if future.result(LONG) else None,
}


async def arrival(future):
    return await future


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_knot_keeps_no_results_of_dropped_future(process_knot_of, use):
    future = process_knot_of(numbers_below).map([2, 3], chunksize=2)
    gc.disable()
    try:
        values = [weakref.ref(value) for value in use(future)]
        assert len(values) == 2
        del future
        until(lambda: not any(value() for value in values))
    finally:
        gc.enable()


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
    assert until(lambda: job.done and job._collection.current().future is None)
    flag.touch()
    assert job.retry_failed().result(LONG) == [str(flag)] * 2


def fails_without(path):
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return path
