"""Failed elements of a map, with a job whose state the test sets: which error each one raises."""

import threading
from dataclasses import dataclass

import pytest

from cloudknot.errors import (
    BatchJobFailedError,
    ElementError,
    ImagePullError,
    JobCancelledError,
    JobTimeoutError,
    WorkerDiedError,
)
from tests.unit.run.collect.fake_job import LONG, Odd, raise_on_two


def test_an_exception_comes_back_with_its_type_attributes_traceback_and_place(submit):
    job, future = submit(raise_on_two)
    job.finish(0, 1, 2)
    with pytest.raises(Odd) as caught:
        future.result(LONG)
    assert (caught.value.number, caught.value.why) == (2, "two is even")
    assert "raise_on_two" in str(caught.value.__cause__)
    assert "element 1" in caught.value.__notes__[0]
    assert "job.logs(1)" in caught.value.__notes__[0]
    assert future[0].result() == 1
    assert future[2].result() == 3


class Custom(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.lock = a, threading.Lock()


class Reworded(Exception):
    def __init__(self, a, b=0):
        super().__init__(f"{a} and {b}")
        self.a = a


@pytest.mark.parametrize("kind", [Custom, Reworded])
def test_an_exception_comes_back_without_its_init(submit, kind):
    def raise_it(x):
        raise kind(x, x)

    job, future = submit(raise_it, [5])
    job.finish(0)
    with pytest.raises(kind, match=r"^5 and 5(\n|$)") as caught:
        future.result(LONG)
    assert type(caught.value) is kind
    assert (caught.value.a, caught.value.args, hasattr(caught.value, "lock")) == (5, ("5 and 5",), False)
    assert "raise_it" in str(caught.value.__cause__)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


def test_an_exception_that_takes_no_attributes_comes_back_and_its_neighbours_run(submit):
    def raise_it(x):
        if x == 5:
            raise Frozen(x)
        return x

    job, future = submit(raise_it, [5, 6])
    job.finish(0, 1)
    with pytest.raises(Frozen) as caught:
        future.result(LONG)
    assert caught.value.code == 5
    assert "raise_it" in str(caught.value.__cause__)
    assert "element 0" in caught.value.__notes__[0]
    assert future[1].result(LONG) == 6


def raise_badly(x):
    raise ValueError("with a lock", threading.Lock())


def test_an_exception_that_cannot_travel_is_described(submit):
    job, future = submit(raise_badly, [5])
    job.finish(0)
    with pytest.raises(ElementError, match=r"raised ValueError: \('with a lock'.* cannot be sent back") as caught:
        future.result(LONG)
    assert caught.value.index == 0
    assert "raise_badly" in str(caught.value.__cause__)


def test_a_result_that_cannot_be_pickled_is_described(submit):
    job, future = submit(lambda x: threading.Lock(), [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"Element 0 .* cannot be pickled.*lock"):
        future.result(LONG)


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (None, 0), ("bye", 1)])
def test_sys_exit_is_an_error_that_does_not_end_the_session(submit, code, exit_code):
    def leave(x):
        raise SystemExit(code)

    job, future = submit(leave, [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"sys\.exit") as caught:
        future.result(LONG)
    assert caught.value.exit_code == exit_code


def test_keyboard_interrupt_in_the_job_does_not_interrupt_the_session(submit):
    def interrupt(x):
        raise KeyboardInterrupt

    job, future = submit(interrupt, [1])
    job.finish(0)
    text = r"raised KeyboardInterrupt, which would end this session if it were raised here\."
    with pytest.raises(ElementError, match=text):
        future.result(LONG)


FAILED = {"status": "FAILED"}


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        ({"container": {"exitCode": 9}}, WorkerDiedError, "exit code 9"),
        ({"container": {"exitCode": 137}}, WorkerDiedError, "exit code 137.*SIGKILL"),
        ({"container": {"exitCode": 139}}, WorkerDiedError, "signal 11"),
        ({"statusReason": "Job attempt duration exceeded timeout"}, JobTimeoutError, "timeout"),
        ({"isTerminated": True, "statusReason": "stop it"}, JobCancelledError, "stop it"),
        ({"attempts": [{"container": {"reason": "CannotPullContainerError: x"}}]}, ImagePullError, "CannotPull"),
    ],
)
def test_a_child_that_failed_without_a_result_says_why(submit, ending, kind, text):
    job, future = submit()
    job.finish(0, 2)
    job.end(1, **FAILED, **ending)
    with pytest.raises(kind, match=rf"Element 1 \(job j:1\).*{text}") as caught:
        future.result(LONG)
    assert type(caught.value) is kind
    assert caught.value.exit_code == ending.get("container", {}).get("exitCode")
    assert future[0].result() == 1


def test_the_error_names_the_log(submit):
    job, future = submit(inputs=[1])
    job.end(0, **FAILED, container={"exitCode": 9, "logStreamName": "s/default/1"})
    with pytest.raises(WorkerDiedError, match=r"job\.logs\(0\)") as caught:
        future.result(LONG)
    assert caught.value.log_url == "log://aws/batch/job/s/default/1"


def test_in_a_chunk_what_was_stored_before_the_death_is_kept(submit):
    job, future = submit(inputs=range(6), chunksize=3)
    job.finish(0, 1, 2, 3)
    job.end(1, **FAILED, container={"exitCode": 9})
    assert [future[i].result(LONG) for i in range(4)] == [0, 1, 4, 9]
    for index in (4, 5):
        with pytest.raises(WorkerDiedError, match=f"Element {index} "):
            future[index].result(LONG)


def test_a_stored_result_wins_over_a_failed_status(submit):
    job, future = submit(inputs=[3])
    job.end(0, **FAILED, container={"exitCode": 1})
    job.finish(0)
    assert future.result(LONG) == [9]


def test_success_without_a_result_is_an_error(submit):
    job, future = submit(inputs=[3])
    job.end(0, status="SUCCEEDED", container={"exitCode": 0})
    job.over = True
    with pytest.raises(BatchJobFailedError, match="stored no result"):
        future.result(LONG)


def test_a_job_that_batch_forgot_ends_too(submit):
    job, future = submit()
    job.finish(0)
    job.over = True
    with pytest.raises(BatchJobFailedError, match="no longer knows"):
        future.result(LONG)
    assert future[0].result() == 1
