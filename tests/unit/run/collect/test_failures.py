"""The error that each failed element of a map raises, with a fake job in memory."""

import re
import threading
import zlib
from dataclasses import dataclass

import cloudpickle
import pytest

from cloudknot.errors import (
    BatchJobFailedError,
    ElementError,
    ImagePullError,
    JobCancelledError,
    JobTimeoutError,
    WorkerDiedError,
)
from cloudknot.run.collect.element_errors import Place, load_exception
from cloudknot.worker.wire.by_value import PYTHON
from cloudknot.worker.wire.failure import RAISED, Failure
from tests.unit.run.collect.fake_job import LONG, FakeJob, Odd, raise_on_two


def test_future_raises_exception_with_attributes_traceback_and_element(submit):
    job, future = submit(raise_on_two)
    job.finish(0, 1, 2)
    with pytest.raises(Odd) as caught:
        future.result(LONG)
    assert (caught.value.number, caught.value.why) == (2, "two is even")
    assert "raise_on_two" in str(caught.value.__cause__)
    assert "element 1" in caught.value.__notes__[0]
    assert "cloudknot logs j 1" in caught.value.__notes__[0]
    assert future[0].result() == 1
    assert future[2].result() == 3


class Custom(Exception):
    """An exception with an attribute that cannot be pickled."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.lock = a, threading.Lock()


class Reworded(Exception):
    """An exception that hands a text to `Exception` in place of its arguments."""

    def __init__(self, a, b=0):
        super().__init__(f"{a} and {b}")
        self.a = a


@pytest.mark.parametrize("kind", [Custom, Reworded])
def test_future_rebuilds_exception_without_calling_its_init(submit, kind):
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


def test_worker_stores_frozen_exception_and_runs_next_element(submit):
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


def test_future_describes_exception_that_cannot_be_pickled(submit):
    job, future = submit(raise_badly, [5])
    job.finish(0)
    with pytest.raises(ElementError, match=r"raised ValueError: \('with a lock'.* cannot be sent back") as caught:
        future.result(LONG)
    assert caught.value.index == 0
    assert "raise_badly" in str(caught.value.__cause__)


def test_future_names_element_of_unpicklable_result(submit):
    job, future = submit(lambda x: threading.Lock(), [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"Element 0 .* cannot be pickled.*lock"):
        future.result(LONG)


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (None, 0), ("bye", 1)])
def test_sys_exit_in_function_does_not_end_session(submit, code, exit_code):
    def leave(x):
        raise SystemExit(code)

    job, future = submit(leave, [1])
    job.finish(0)
    with pytest.raises(ElementError, match=r"sys\.exit") as caught:
        future.result(LONG)
    assert caught.value.exit_code == exit_code


def test_keyboard_interrupt_in_job_does_not_interrupt_session(submit):
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
def test_element_of_failed_child_raises_error_with_reason(submit, ending, kind, text):
    job, future = submit()
    job.finish(0, 2)
    job.end(1, **FAILED, **ending)
    with pytest.raises(kind, match=rf"Element 1 \(job j:1\).*{text}") as caught:
        future.result(LONG)
    assert type(caught.value) is kind
    assert caught.value.exit_code == ending.get("container", {}).get("exitCode")
    assert future[0].result() == 1


def test_error_gives_call_and_address_of_log(submit):
    job, future = submit(inputs=[1])
    job.end(0, **FAILED, container={"exitCode": 9, "logStreamName": "s/default/1"})
    with pytest.raises(WorkerDiedError, match="cloudknot logs j 0") as caught:
        future.result(LONG)
    assert caught.value.log_url == "log://aws/batch/job/s/default/1"


def test_future_keeps_results_that_dead_child_stored(submit):
    job, future = submit(inputs=range(6), chunksize=3)
    job.finish(0, 1, 2, 3)
    job.end(1, **FAILED, container={"exitCode": 9})
    assert [future[i].result(LONG) for i in range(4)] == [0, 1, 4, 9]
    for index in (4, 5):
        with pytest.raises(WorkerDiedError, match=f"Element {index} "):
            future[index].result(LONG)


def test_stored_result_overrides_failed_status(submit):
    job, future = submit(inputs=[3])
    job.end(0, **FAILED, container={"exitCode": 1})
    job.finish(0)
    assert future.result(LONG) == [9]


def test_successful_job_without_stored_result_is_error(submit):
    job, future = submit(inputs=[3])
    job.end(0, status="SUCCEEDED", container={"exitCode": 0})
    job.over = True
    with pytest.raises(BatchJobFailedError, match="stored no result"):
        future.result(LONG)


def test_map_ends_when_batch_has_deleted_its_job(submit):
    job, future = submit()
    job.finish(0)
    job.over = True
    with pytest.raises(BatchJobFailedError, match="no longer knows"):
        future.result(LONG)
    assert future[0].result() == 1


def relabelled(data, python):
    """Return a pack as another Python would have stored it: with its version and the checksum of the changed head."""
    major, minor = map(int, python.split("."))
    header, rest = data[:7] + bytes([major, minor]) + data[9:HEADER], data[HEADER + 4 :]
    count = int.from_bytes(header[28:32], "little")
    return header + zlib.crc32(rest[: 40 * count], zlib.crc32(header)).to_bytes(4, "little") + rest


HEADER = 76
"""Bytes of the header of a pack before its checksum."""


def list_with_code(x):
    return [x, lambda: x] if x == 0 else [x]


def test_result_of_another_python_is_refused_if_it_holds_code_and_loads_if_it_is_plain(submit):
    """Bytecode of another Python would end the session with a segmentation fault."""
    stored = FakeJob(list_with_code, [0, 1])
    stored.finish(0, 1)
    job, future = submit(list_with_code, inputs=[0, 1])
    job.packs = {location: relabelled(data, "3.8") for location, data in stored.packs.items()}
    text = rf"pickled by Python 3\.8, which Python {PYTHON} cannot load.*Read it with Python 3\.8"
    with pytest.raises(ElementError, match=rf"Element 0 .*{text}"):
        future[0].result(LONG)
    with pytest.raises(ElementError, match=text):
        future.result(LONG)
    assert future[1].result(LONG) == [1]


def test_exception_of_another_python_is_refused_if_it_holds_code_and_raised_if_it_is_plain():
    class Local(Exception):
        """An exception that travels by value."""

    failures = [
        Failure(RAISED, type(error).__name__, "no", "Traceback ...", pickled=cloudpickle.dumps(error), python="3.8")
        for error in (Local("no"), ValueError("no"))
    ]
    refused, plain = (load_exception(failure, Place(3, "job")) for failure in failures)
    assert isinstance(refused, ElementError)
    assert re.search(rf"raised Local: no\. .* by Python 3\.8, which Python {PYTHON} cannot load", str(refused))
    assert refused.__cause__.text == "Traceback ..."
    assert type(plain) is ValueError
