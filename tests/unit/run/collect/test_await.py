"""``await`` of a map and of its elements, with a fake job in memory."""

import asyncio
import threading
from concurrent.futures import CancelledError
from itertools import pairwise

import pytest

from cloudknot.errors import BatchJobFailedError, CloudknotInputError, WorkerDiedError
from cloudknot.run.collect.map_future import empty_map
from cloudknot.run.collect.timers import PollTimer
from tests.helpers.waiting import until
from tests.unit.run.collect.fake_job import LONG, FakeJob, Odd, future_of, raise_on_two


async def value_of(future):
    return await future


async def error_of(future):
    try:
        return await future
    except Exception as error:
        return error


async def waiting_task(future):
    """Start a task that waits for a future, and return the task."""
    task = asyncio.ensure_future(error_of(future))
    await asyncio.sleep(0.05)
    assert not task.done()
    return task


def test_coroutine_awaits_map_and_elements(submit):
    job, future = submit()

    async def main():
        waiting = [await waiting_task(awaitable) for awaitable in (future, future[2])]
        job.finish(0, 1, 2)
        assert await asyncio.gather(*waiting) == [[1, 4, 9], 9]
        return await future, await future[0]

    assert asyncio.run(main()) == ([1, 4, 9], 1)


def test_coroutine_awaits_many_elements_concurrently(submit):
    job, future = submit(lambda x: x, range(1000))

    async def main():
        waiting = asyncio.gather(future, *future, *(value_of(future[index]) for index in range(1000)))
        await asyncio.sleep(0)
        job.finish(*range(500))
        await future[499]
        assert not waiting.done()
        job.finish(*range(500, 1000))
        return await waiting

    assert asyncio.run(main()) == [list(range(1000)), *range(1000), *range(1000)]
    assert not future._all_waiters
    assert not future._all_waiters.callbacks


def test_await_raises_same_exception_as_result(submit):
    job, future = submit(raise_on_two)
    job.finish(0, 1)
    job.end(2, status="FAILED", container={"exitCode": 9})

    async def main():
        return [await error_of(awaitable) for awaitable in (future, *future)]

    whole, *elements = asyncio.run(main())
    assert whole is future[1].exception()
    assert (type(whole), type(elements[1]), elements[1].args) == (Odd, Odd, (2,))
    assert (elements[0], type(elements[2])) == (1, WorkerDiedError)


def test_await_ends_with_error_after_collector_fails(submit):
    job, future = submit()
    job.silence = RuntimeError("surprise")
    assert isinstance(asyncio.run(error_of(future)), BatchJobFailedError)


def test_await_wraps_stop_iteration_in_runtime_error(submit):
    def stop(x):
        raise StopIteration(x)

    job, future = submit(stop, [5])
    job.finish(0)
    error = asyncio.run(error_of(future))
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_await_returns_single_value_of_reduced_map():
    job = FakeJob(sum, [[1, 2, 3]])
    job.run.manifest.gather = True
    future = future_of(job)
    job.finish(0)
    assert asyncio.run(value_of(future)) == 6
    assert asyncio.run(value_of(future[0])) == 6


def test_cancelled_task_leaves_map_and_other_tasks_waiting(submit):
    job, future = submit()

    async def main():
        waiting = [await waiting_task(awaitable) for awaitable in (future, future, future[1], future[1])]
        for task in waiting[::2]:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        with pytest.raises(asyncio.CancelledError):
            await waiting[2]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.05)
        assert (job.terminated, future.cancelled()) == ([], False)
        job.finish(0, 1, 2)
        return await waiting[1], await waiting[3]

    assert asyncio.run(main()) == ([1, 4, 9], 4)


def test_abandoned_await_leaves_no_waiter_behind(submit):
    """With a waiter left, the interpreter would not end before the map."""
    _, future = submit()

    async def main():
        for awaitable in (future, future[1]):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(awaitable, 0.05)

    asyncio.run(main())
    assert not future._all_waiters
    assert not future._all_waiters.callbacks
    assert not future._done_callbacks


def test_cancelled_map_raises_in_awaiting_tasks_without_cancelling_them(submit):
    _, future = submit()

    async def main():
        waiting = [await waiting_task(awaitable) for awaitable in (future, future[0])]
        assert await asyncio.to_thread(future.cancel)
        errors = await asyncio.gather(*waiting)
        return [type(error) for error in errors], [task.cancelled() for task in waiting]

    assert asyncio.run(main()) == ([CancelledError] * 2, [False] * 2)


def test_event_loop_keeps_running_while_future_reads_result(submit):
    job, future = submit()
    job.finish(0, 1, 2)
    future.exception(LONG)
    proceed, reading = threading.Event(), threading.Event()
    outcome = future._outcome

    def read_slowly():
        reading.set()
        assert proceed.wait(LONG)
        return outcome()

    future._outcome = read_slowly

    async def main():
        waiting = asyncio.ensure_future(value_of(future))
        while not reading.is_set():
            await asyncio.sleep(0.01)
        proceed.set()
        return await waiting

    assert asyncio.run(main()) == [1, 4, 9]


def test_collector_survives_closed_event_loop(submit):
    job, future = submit()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(value_of(future))
    loop.run_until_complete(asyncio.sleep(0.05))
    # Else asyncio logs that the pending task was destroyed.
    waiting._log_destroy_pending = False
    loop.close()
    called = []
    future.add_done_callback(called.append)
    job.finish(0, 1, 2)
    until(lambda: called)
    assert future.result(LONG) == [1, 4, 9]


def test_empty_map_supports_await_indexing_and_retry_but_not_reduce():
    future = empty_map()
    assert asyncio.run(value_of(future)) == []
    assert (list(future), future[:1], future.retry_failed()) == ([], [], future)
    with pytest.raises(IndexError):
        future[0]
    with pytest.raises(CloudknotInputError, match="empty map"):
        future.reduce(sum)


def polls(ends, took=0.01, count=None):
    """Return the times of the polls until the last of some elements has been found."""
    now = 0.0
    timer, times = PollTimer(count or len(ends), lambda: now), []
    while not times or sum(end <= times[-1] for end in ends) < len(ends):
        begun, ended = now, sum(end <= now for end in ends)
        times.append(now)
        now += took
        now += timer.pause(begun, ended)
    return times


def test_polls_meet_the_end_of_steady_elements():
    """Without the rate, the pauses of 50 ms would find the last of them up to 50 ms late."""
    for length in (0.31, 0.33, 0.47, 1.09):
        ends = [length * (number + 1) / 40 for number in range(40)]
        times = polls(ends)
        assert times[-1] - ends[-1] <= 0.03
        assert len(times) <= 12 + 20 * length


def test_straggler_costs_few_polls():
    steady = [0.01 * (number + 1) for number in range(1000)]
    assert len(polls([*steady, 3600.0])) <= len(polls(steady)) + len(polls([3600.0])) + 20


def test_pauses_without_ended_elements_grow_with_the_wait():
    times = polls([1000.0])
    assert times[1] - times[0] == pytest.approx(0.06)
    assert max(later - earlier for earlier, later in pairwise(times)) == pytest.approx(10.01)
