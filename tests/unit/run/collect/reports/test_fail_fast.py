"""``result(fail_fast=True)`` raises the first known failure. Errors of a map have the number of failed elements."""

import threading

import pytest

from cloudknot.errors import CKTimeoutError, CloudError
from cloudknot.options import streams
from tests.helpers.waiting import until
from tests.unit.run.collect.fake_job import LONG, FakeJob, Odd, future_of, raise_on_two


def job_with(*finished):
    job = FakeJob(raise_on_two, [0, 1, 2, 3])
    job.finish(*finished)
    return job


def notes_of(error):
    return [note for note in error.__notes__ if "of 4 elements" in note]


def test_fail_fast_raises_known_failure_while_others_run():
    job = job_with(0, 2)
    future = future_of(job)
    with pytest.raises(Odd) as caught:
        future.result(LONG, fail_fast=True)
    assert not future.done()
    assert job.terminated == []
    assert caught.value is future[2].exception()
    assert notes_of(caught.value) == [
        "1 of 4 elements failed so far, and 2 have not ended. The job keeps running. End it: future.cancel()."
    ]
    job.finish(1, 3)
    with pytest.raises(Odd) as caught:
        future.result(LONG)
    assert notes_of(caught.value) == ["1 of 4 elements failed."]


@pytest.mark.parametrize(
    ("finished", "note"),
    [((0, 1), "2 of 4 elements could not be read."), ((2,), "1 of 4 elements failed, and 3 could not be read.")],
)
def test_elements_that_a_silent_cloud_withheld_have_not_failed(finished, note):
    job = job_with(*finished)
    future = future_of(job)
    until(future[finished[0]].done)
    job.silence = CloudError("The cloud was stopped.")
    assert notes_of(future.exception(LONG)) == [note]


def test_fail_fast_waits_for_failure_that_comes_later():
    job = job_with(0)
    future, raised = future_of(job), []

    def wait():
        try:
            future.result(LONG, fail_fast=True)
        except Odd as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    until(future[0].done)
    assert thread.is_alive()
    job.finish(2)
    thread.join(LONG)
    assert [error.number for error in raised] == [2]
    job.finish(1, 3)
    future.exception(LONG)


def test_fail_fast_returns_results_and_keeps_timeout():
    job = FakeJob(abs, [-1, -2])
    future = future_of(job)
    with pytest.raises(CKTimeoutError):
        future.result(0.01, fail_fast=True)
    job.finish(0, 1)
    assert future.result(LONG, fail_fast=True) == [1, 2]


def test_fail_fast_of_cancelled_map_raises_as_without_it():
    from concurrent.futures import CancelledError

    future = future_of(job_with(0))
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(LONG, fail_fast=True)


@pytest.mark.parametrize("finished", [(2,), (3, 2)], ids=["first", "second"])
def test_first_failure_is_logged_once_with_number_of_elements(caplog, finished):
    job = job_with(*finished)
    future = future_of(job)
    future[2].exception(LONG)
    job.end(0, status="FAILED", statusReason="Host EC2 (instance i-1) terminated.")
    job.finish(1, *{3} - set(finished))
    future.exception(LONG)
    messages = [record.getMessage() for record in caplog.records if record.name == streams.logger.name]
    assert messages == ["fake: element 2 failed: Odd: 2 (1 of 4)"]


def test_lost_element_is_reported_with_kind_of_its_error(caplog):
    job = job_with(0)
    job.end(1, status="FAILED", statusReason="Host EC2 (instance i-1) terminated.")
    future = future_of(job)
    future[1].exception(LONG)
    job.finish(2, 3)
    future.exception(LONG)
    (record,) = caplog.records
    assert record.getMessage().startswith("fake: element 1 failed: HostLostError: lost the machine that it ran on. ")


def test_failures_of_map_that_had_ended_before_are_no_news(caplog):
    job = job_with(0, 1, 2, 3)
    job.over = True
    assert isinstance(future_of(job).exception(LONG), Odd)
    assert caplog.records == []


class Recorder:
    """A progress display that keeps its snapshots."""

    def __init__(self):
        self.shown = []

    def show(self, now):
        self.shown.append(now)

    def stop(self):
        pass

    pause = resume = stop


def test_display_gets_failure_in_place_of_log(caplog):
    recorder = Recorder()
    future = future_of(job_with(0, 1, 2, 3), progress=recorder)
    future.exception(LONG)
    until(lambda: recorder.shown)
    assert recorder.shown[-1].failure == "element 2 failed: Odd: 2"
    assert recorder.shown[-1].failed == 1
    assert caplog.records == []
