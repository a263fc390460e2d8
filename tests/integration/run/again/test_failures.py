"""Failures of elements on the embedded cloud: exceptions, killed processes, and what Batch's attempts repeat."""

import os
import signal
import socket
import sys
import threading

import pytest

from cloudknot.errors import ElementError, WorkerDiedError
from tests.helpers.waiting import LONG, until


class Explained(Exception):
    def __init__(self, number, hint=""):
        super().__init__(f"{number} is odd")
        self.number, self.hint = number, hint


def only_even(x):
    if x % 2:
        raise Explained(x, hint="add one")
    return x


@pytest.mark.contract
def test_failed_element_raises_its_exception_and_other_results_stay(knot_of):
    future = knot_of(only_even).map([0, 1, 2, 3])
    with pytest.raises(Explained, match="1 is odd") as caught:
        future.result(LONG)
    assert (caught.value.number, caught.value.hint) == (1, "add one")
    assert "in only_even" in str(caught.value.__cause__)
    assert "raise Explained" in str(caught.value.__cause__)
    assert any("element 1" in note for note in caught.value.__notes__)
    assert (future[0].result(), future[2].result()) == (0, 2)
    assert isinstance(future[3].exception(LONG), Explained)


class PairError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")
        self.a = a


def raise_pair_error(x):
    raise PairError(x, 2)


def test_exception_with_its_own_init_arguments_is_raised(knot_of):
    with pytest.raises(PairError, match=r"^1-2(\n|$)") as caught:
        knot_of(raise_pair_error).map([1]).result(LONG)
    assert (type(caught.value), caught.value.a) == (PairError, 1)


def test_worker_continues_chunk_after_exception(knot_of):
    future = knot_of(only_even).map(range(6), chunksize=3)
    assert [type(element.exception(LONG)).__name__ for element in future] == ["NoneType", "Explained"] * 3


def fail_by(kind):
    if kind == "lock":
        return threading.Lock()
    if kind == "exit":
        sys.exit(4)
    if kind == "exception":

        class Strange(Exception):
            lock = threading.Lock()

        raise Strange("cannot travel")
    if kind == "die":
        os._exit(9)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return kind


@pytest.mark.parametrize(
    ("kind", "error", "cause", "exit_code"),
    [
        ("lock", ElementError, "cannot be pickled", None),
        ("exit", ElementError, r"sys\.exit\(4\)", 4),
        ("exception", ElementError, "Strange: cannot travel", None),
        ("die", WorkerDiedError, "exit code 9", 9),
        ("kill", WorkerDiedError, "exit code 137", 137),
    ],
)
def test_element_without_result_names_its_job_cause_and_log(knot_of, kind, error, cause, exit_code):
    future = knot_of(fail_by).map(["fine", kind])
    with pytest.raises(error, match=rf"Element 1 \(job {future.job.job_id}:1\).*{cause}") as caught:
        future.result(LONG)
    assert (caught.value.index, caught.value.exit_code) == (1, exit_code)
    assert f"cloudknot logs {future.job.job_id} 1 --cloud local" in str(caught.value)
    assert future[0].result() == "fine"


@pytest.mark.contract
def test_killed_chunk_keeps_its_stored_results(knot_of, gate):
    elements = [(what, gate.address) for what in ("first", "waits", "dies", "last")]
    future = knot_of(wait_at_gate_or_die).map(elements, starmap=True, chunksize=4)
    assert future[0].result(LONG) == "first"
    gate.open()
    with pytest.raises(WorkerDiedError, match=r"Element 3 .*exit code 9"):
        future[3].result(LONG)


def wait_at_gate_or_die(what, address):
    if what == "dies":
        os._exit(9)
    if what == "waits":
        wait_at(address)
    return what


def wait_at(address):
    """Wait until the gate is open."""
    with socket.create_connection(tuple(address), timeout=LONG) as connection:
        connection.recv(1)


def attempt_number():
    return int(os.environ["AWS_BATCH_JOB_ATTEMPT"])


def fail_before(attempt):
    if attempt_number() < attempt:
        raise RuntimeError(f"attempt {attempt_number()}")
    return attempt_number()


@pytest.mark.contract
def test_batch_repeats_raising_element_up_to_its_attempts(knot_of):
    future = knot_of(fail_before, retries=3).map([3])
    assert future.result(LONG) == [3]
    until(lambda: len(future.job.attempts) == 3)


def test_element_without_retries_fails_with_its_first_exception(process_knot_of):
    with pytest.raises(RuntimeError, match="attempt 1"):
        process_knot_of(fail_before).map([3]).result(LONG)


def compute_or_die(name, address):
    print(f"computing {name}")
    if name == "two" and attempt_number() == 1:
        wait_at(address)
        os._exit(7)
    return attempt_number()


def test_second_attempt_of_chunk_skips_stored_results(knot_of, gate):
    elements = [("one", gate.address), ("two", gate.address)]
    future = knot_of(compute_or_die, retries=2).map(elements, starmap=True, chunksize=2)
    assert future[0].result(LONG) == 1
    gate.open()
    assert future.result(LONG) == [1, 2]
    until(lambda: list(future.job.logs()).count("computing two") == 2)
    assert list(future.job.logs()).count("computing one") == 1


def test_retries_argument_applies_to_one_map_only(process_knot_of):
    knot = process_knot_of(fail_before)
    assert knot.map([3], retries=3).result(LONG) == [3]
    with pytest.raises(RuntimeError, match="attempt 1"):
        knot.map([3]).result(LONG)


def test_map_with_one_attempt_overrides_retries_of_its_knot(process_knot_of):
    knot = process_knot_of(fail_before, retries=3)
    with pytest.raises(RuntimeError, match="attempt 1"):
        knot.map([3], retries=1).result(LONG)
    assert knot.job_definition.retries == 3
