"""MapFuture and its collector, with a fake job in memory: no cloud, no processes."""

import asyncio
import sys
import threading
import tracemalloc
from concurrent.futures import FIRST_COMPLETED, as_completed, wait

import pytest

from cloudknot.errors import (
    BatchJobFailedError,
    CKTimeoutError,
    CloudError,
    CloudknotError,
    ElementError,
    JobRunningError,
    PermissionDeniedError,
)
from cloudknot.run.collect.map_future import empty_map
from cloudknot.worker.element import run_element
from cloudknot.worker.wire.keys import Location
from tests.helpers.functions import square
from tests.helpers.waiting import until
from tests.unit.run.collect.fake_job import LONG, raise_on_two


def test_future_returns_results_in_input_order(submit):
    job, future = submit()
    job.finish(2, 0, 1)
    assert future.result(LONG) == [1, 4, 9]
    assert future.done()


def test_element_ends_before_its_map(submit):
    job, future = submit()
    job.finish(1)
    assert future[1].result(LONG) == 4
    assert not future.done()
    assert not future[0].done()
    job.finish(0, 2)
    assert [element.result(LONG) for element in future] == [1, 4, 9]


def test_future_is_sequence_of_element_futures(submit):
    _, future = submit()
    assert len(future) == 3
    assert future[-1] is future[2]
    assert future[:2] == [future[0], future[1]]
    assert [element.index for element in future] == [0, 1, 2]


def test_empty_map_is_done_at_once():
    future = empty_map()
    assert future.done()
    assert future.result() == []
    assert list(future) == []


def test_as_completed_and_wait_accept_elements_and_map(submit):
    job, future = submit()
    job.finish(0)
    first = wait(future, LONG, FIRST_COMPLETED)
    assert [element.index for element in first.done] == [0]
    job.finish(1, 2)
    assert {element.result() for element in as_completed(future, LONG)} == {1, 4, 9}
    assert wait([future], LONG).not_done == set()


def test_asyncio_wraps_future_of_element(submit):
    job, future = submit()
    job.finish(0, 1, 2)

    async def main():
        return await asyncio.wrap_future(future[2])

    assert asyncio.run(main()) == 9


def test_none_is_valid_result(submit):
    job, future = submit(lambda x: None)
    job.finish(0, 1, 2)
    assert future.result(LONG) == [None, None, None]


def test_timeout_keeps_job_running_and_explains_how_to_return(submit):
    job, future = submit()
    with pytest.raises(CKTimeoutError, match=r"look at knot\.jobs") as caught:
        future.result(0.01)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(TimeoutError):
        future[0].exception(0.01)
    assert job.terminated == []
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_future_calls_each_callback_once(submit):
    job, future = submit()
    called = []
    for waited in (future, *future):
        waited.add_done_callback(called.append)
    job.finish(0, 1, 2)
    future.result(LONG)
    late = []
    future.add_done_callback(late.append)
    assert set(called) <= {future, *future}
    assert late == [future]
    # The collector calls the last callback after it has woken the waits for the map.
    until(lambda: len(called) >= 4)
    assert len(called) == 4


def test_pending_element_refuses_cancel_and_is_never_running(submit):
    job, future = submit()
    assert (future[0].cancel(), future[0].running(), future[0].cancelled()) == (False, False, False)
    assert job.terminated == []
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_value_of_retry_by_another_session_replaces_failure(submit):
    """The collector sees the round with the failed element first."""
    job, future = submit(inputs=[1, 2, 3], chunksize=3)
    good, bad = run_element(square, lambda: 1, False), run_element(len, lambda: 1, False)
    job.store(Location(0, 2), bad, good)
    assert isinstance(future[0].exception(LONG), TypeError)
    job.store(Location(0, 1, 1), good)
    until(lambda: future[0].exception() is None)
    reads = job.reads
    polls = job.polls
    until(lambda: job.polls > polls + 2)
    assert job.reads == reads
    job.finish(2)
    assert future.result(LONG) == [1, 1, 9]


def test_collector_awaits_memory_growth_of_another_session_without_warning(submit, caplog):
    job, future = submit()
    job.patience, refused = 0, []

    def grow(elements):
        refused.append(elements)
        if len(refused) == 3:
            job.finish(*elements)
        raise JobRunningError("Another session is submitting")

    job.may_grow, job.grow = lambda child, description: True, grow
    for child in range(3):
        job.end(child, status="FAILED")
    job.over = True
    assert future.result(LONG) == [1, 4, 9]
    assert refused == [[0, 1, 2]] * 3
    assert "does not answer" not in caplog.text
    assert caplog.records == []


def test_collector_resumes_after_short_outage(submit):
    job, future = submit()
    job.patience = LONG
    job.silence = CloudError("no answer")
    polls = job.polls
    while job.polls < polls + 2:
        pass
    job.finish(0, 1, 2)
    job.silence = None
    assert future.result(LONG) == [1, 4, 9]


@pytest.mark.parametrize("error", [CloudError("no answer"), PermissionDeniedError("no")])
def test_wait_ends_with_error_after_long_outage(submit, error):
    job, future = submit()
    job.silence = error
    with pytest.raises(BatchJobFailedError, match=r"Element 0 \(job j:0\)") as caught:
        future.result(LONG)
    assert caught.value.__cause__ is error
    assert [element.exception().index for element in future] == [0, 1, 2]


def test_wait_ends_with_error_after_collector_fails(submit):
    job, future = submit()
    job.silence = RuntimeError("surprise")
    with pytest.raises(CloudknotError, match="surprise"):
        future.result(LONG)


def test_map_returns_same_element_future_while_caller_holds_it(submit):
    job, future = submit(inputs=range(1000))
    held = future[3]
    assert future[3] is held
    assert len(list(future)) == 1000
    assert len(future._futures._by_index) == 1
    job.finish(*range(1000))
    assert held.result(LONG) == 9
    assert held.result(LONG) is future[3].result(LONG)


def test_futures_of_same_element_are_equal(submit):
    job, future = submit(inputs=range(1000))
    other_future = submit(inputs=range(1000))[1]
    numbers = {element: number for number, element in enumerate(future)}
    job.finish(*range(1000))
    assert sorted(numbers[element] for element in as_completed(future, LONG)) == list(range(1000))
    assert all(numbers[future[number]] == number for number in (0, 255, 256, 999))
    assert set(wait(numbers, LONG).done) == numbers.keys() == set(future)
    assert future[3] in future[2:4]
    assert future[3] not in (future[2], other_future[3], 3)


def test_element_future_takes_less_than_hundred_bytes(submit):
    future = submit(inputs=range(10_000))[1]
    held = [None] * len(future)
    tracemalloc.start()
    try:
        for index, element in enumerate(future):
            held[index] = element
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(held) < 100


def test_map_keeps_element_future_with_callback_until_it_ends(submit):
    job, future = submit()
    called = []
    future[1].add_done_callback(lambda done: called.append(done.result()))
    job.finish(0, 1, 2)
    future.result(LONG)
    assert called == [4]
    assert not future._all_waiters.callbacks


def test_standard_as_completed_leaves_no_waiter_behind(submit):
    job, future = submit(inputs=range(50))
    with pytest.raises(TimeoutError):
        list(as_completed(future, 0.01))
    assert not future._all_waiters.of_elements
    job.finish(*range(50))
    assert len(list(as_completed(future, LONG))) == 50
    assert not future._all_waiters.of_elements


def test_as_completed_of_map_holds_no_futures(submit):
    job, future = submit(inputs=range(100))
    job.finish(5, 7)
    ending = future.as_completed(LONG)
    assert {next(ending).index, next(ending).index} == {5, 7}
    job.finish(*range(100))
    assert sorted(element.result() for element in ending) == sorted(x * x for x in range(100) if x not in (5, 7))
    assert not future._futures._by_index


def test_as_completed_of_map_raises_timeout_error(submit):
    job, future = submit()
    job.finish(0)
    future[0].result(LONG)
    ending = future.as_completed(0.3)
    assert next(ending).result() == 1
    with pytest.raises(CKTimeoutError):
        next(ending)


def test_map_and_element_futures_return_same_objects(submit):
    job, future = submit(lambda x: [x], range(3))
    job.finish(0, 1, 2)
    first = future[1]
    value = first.result(LONG)
    assert future.result(LONG)[1] is value
    assert future[2].result() is future.result()[2]


def test_future_reads_results_again_that_exceed_cache(submit):
    job, future = submit(lambda x: bytes(1000), range(20))
    future._loader.packs._room = 5000
    job.finish(*range(20))
    assert [len(element.result(LONG)) for element in future] == [1000] * 20
    assert future._loader.packs._used <= 5000
    assert future.result(LONG) == [bytes(1000)] * 20


def test_collector_lists_no_packs_of_ended_children_while_first_child_runs(submit):
    """With 10,000 children, 10 pages have all packs. A poll lists only those before and after the done children."""
    job, future = submit(lambda x: x, range(10_000))
    job.page = 1000
    job.finish(*range(1, 9_999))
    assert future[9_998].result(LONG) == 9_998
    # The look that found all packs may still run. Each look begins with a listing from the first element.
    looks = job.looks
    until(lambda: job.looks > looks)
    looks, pages = job.looks, job.pages
    until(lambda: job.looks >= looks + 10)
    assert job.pages - pages <= 2 * (job.looks - looks + 1)
    job.finish(0, 9_999)
    assert len(future.result(LONG)) == 10_000


class Thing:
    """A value that unpickles only while ``missing`` is empty, as one whose module is installed."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return make_thing, (self.number,)


missing = []


def make_thing(number):
    if missing:
        raise ImportError("no such module here")
    return f"thing {number}"


def test_future_unpickles_result_after_missing_module_appears(submit):
    job, future = submit(Thing, range(3))
    element = future[1]
    missing.append("module")
    try:
        job.finish(0, 1, 2)
        with pytest.raises(ElementError, match="cannot be unpickled in this session: ImportError"):
            element.result(LONG)
        with pytest.raises(ElementError, match="cannot be unpickled in this session: ImportError"):
            future.result(LONG)
    finally:
        missing.clear()
    assert future.result(LONG) == ["thing 0", "thing 1", "thing 2"]
    assert element.result(LONG) == "thing 1"


def test_concurrent_waits_for_elements_of_two_maps_do_not_deadlock(submit):
    """The standard library locks futures in the order of their ids, and the ids of two maps alternate."""
    (_, first), (_, second) = submit(inputs=range(2000)), submit(inputs=range(2000))

    def wait_repeatedly(maps):
        for _ in range(30):
            wait([element for pair in zip(*maps, strict=True) for element in pair], timeout=0.001)

    threads = [
        threading.Thread(target=wait_repeatedly, args=(maps,), daemon=True)
        for maps in ((first, second), (second, first))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)


def test_collector_survives_callback_that_exits(submit, caplog):
    job, future = submit()
    future[0].add_done_callback(lambda element: sys.exit("enough"))
    job.finish(0)
    assert future[0].result(LONG) == 1
    job.finish(1, 2)
    assert future.result(LONG) == [1, 4, 9]
    assert "A callback of an element's future failed" in caplog.text


def test_snapshot_gives_asyncio_state_of_future(submit):
    """From Python 3.14 on, asyncio reads a snapshot in place of private fields of a future."""
    job, future = submit(raise_on_two, [1, 2])
    assert future._get_snapshot() == (False, False, None, None)
    job.finish(0, 1)
    assert future.exception(LONG) is future._get_snapshot()[3]
    assert future[0]._get_snapshot() == (True, False, 1, None)
    _, cancelled = submit()
    cancelled.cancel()
    assert cancelled._get_snapshot() == (True, True, None, None)
