"""The end of jobs and elements after `MapFuture.cancel`, with a fake job in memory."""

import threading
from concurrent.futures import CancelledError, wait

import pytest

from cloudknot.errors import CloudError, PermissionDeniedError
from tests.helpers.functions import square
from tests.helpers.waiting import until
from tests.unit.run.collect.fake_job import LONG, FakeJob, future_of


def test_cancel_terminates_job_and_cancels_pending_elements(submit):
    job, future = submit()
    job.finish(0)
    assert future[0].result(LONG) == 1
    assert future.cancel()
    assert len(job.terminated) == 1
    assert future.cancelled()
    assert future[0].result() == 1
    with pytest.raises(CancelledError):
        future[1].result(LONG)
    with pytest.raises(CancelledError):
        future.result(LONG)
    assert wait(future, LONG).not_done == set()


def test_cancel_reports_elements_it_terminated_as_cancelled_not_failed(submit):
    """The collector may see the job end before `terminate` has returned."""
    job, future = submit()

    def terminate(reason):
        job.over = True
        for child in range(3):
            job.end(child, status="FAILED", statusReason=reason)
        polls = job.polls
        until(lambda: job.polls > polls + 2)

    job.terminate = terminate
    future.add_done_callback(lambda _: None)
    assert future.cancel()
    assert [future.cancelled(), *(element.cancelled() for element in future)] == [True] * 4


def test_cancel_keeps_results_stored_until_job_ends(submit):
    job, future = submit()
    job.terminate = lambda reason: job.finish(0, 2)
    assert future.cancel()
    assert [element.cancelled() for element in future] == [False, True, False]
    assert [future[0].result(), future[2].result()] == [1, 9]


def test_cancel_returns_false_if_map_completes_meanwhile(submit):
    job, future = submit()
    job.terminate = lambda reason: job.finish(0, 1, 2)
    assert not future.cancel()
    assert future.result(0) == [1, 4, 9]


def test_cancel_succeeds_without_last_results_of_unreachable_cloud(submit, caplog):
    job, future = submit()

    def terminate(reason):
        job.silence = CloudError("no answer")

    job.terminate = terminate
    assert future.cancel()
    assert all(element.cancelled() for element in future)
    assert "The last results of a cancelled map could not be read" in caplog.text


@pytest.mark.parametrize("submits", [False, True])
def test_cancel_stops_memory_growth_before_or_after_its_submission(submit, submits):
    """Before its submission, memory growth is dropped. During it, cancel waits, then terminates the new jobs too."""
    job, future = submit()
    growing, cancelling, events = threading.Event(), threading.Event(), []

    def about_to_grow(child, description):
        if not submits:
            growing.set()
            cancelling.wait(LONG)
        return True

    def grow(elements):
        growing.set()
        until(lambda: future._collector._holds_failures.is_set())
        events.append("grown")

    job.may_grow, job.grow = about_to_grow, grow
    job.terminate = lambda reason: events.append("ended")
    for child in range(3):
        job.end(child, status="FAILED")
    job.over = True
    assert growing.wait(LONG)
    assert future.cancel()
    cancelling.set()
    until(lambda: not future._collector._thread.is_alive())
    assert events == (["grown", "ended"] if submits else ["ended"])


def test_cancel_refused_by_cloud_leaves_map_running(submit):
    job, future = submit()

    def refuse(reason):
        raise PermissionDeniedError("You may not")

    job.terminate, terminate = refuse, job.terminate
    with pytest.raises(PermissionDeniedError):
        future.cancel()
    job.terminate = terminate
    job.finish(0, 1, 2)
    assert future.result(LONG) == [1, 4, 9]


def test_cancel_after_end_of_map_does_nothing(submit):
    job, future = submit()
    job.finish(0, 1, 2)
    future.result(LONG)
    assert not future.cancel()
    assert job.terminated == []
    assert not future[0].cancel()


class InterruptedJob(FakeJob):
    """A job that raises KeyboardInterrupt while the main thread lists the last packs."""

    def list_packs(self, element):
        if self.terminated and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return super().list_packs(element)


def test_interrupted_cancel_ends_every_wait():
    future = future_of(InterruptedJob(square, [1, 2], 1))
    waiting = future[1]
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    with pytest.raises(CancelledError):
        future.result(LONG)
    with pytest.raises(CancelledError):
        waiting.result(LONG)


def test_cancel_interrupted_by_callback_runs_other_callbacks_and_ends_waits(submit):
    _, future = submit()
    called = []

    def interrupt(_):
        raise KeyboardInterrupt

    future[0].add_done_callback(interrupt)
    future[1].add_done_callback(called.append)
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert called == [future[1]]
    with pytest.raises(CancelledError):
        future.result(LONG)
