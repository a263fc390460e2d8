"""Invalid maps, retries and reductions, and elements without a result."""

from __future__ import annotations

import functools
import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import cloudpickle
import numpy

import cloudknot as ck
from cloudknot.aws import Cloud
from cloudknot.aws.outages import Outages
from cloudknot.display.progress import ProgressLine, Snapshot, progress_line
from cloudknot.options.choices import MapOptions, Overrides
from cloudknot.program.inputs.arguments import CallCheck
from cloudknot.program.inputs.input_pickling import pickle_into
from cloudknot.program.inputs.needs import ImagePackages, InputNeeds
from cloudknot.program.program import make_program
from cloudknot.program.script import make_script
from cloudknot.run.collect.element_errors import (
    Place,
    given_up_error,
    load_exception,
    lost_error,
    unpickling_error,
    unusable_error,
)
from cloudknot.run.collect.element_table import CANCELLED, ElementTable
from cloudknot.run.collect.job_failures import STUCK, WORDINGS, ending
from cloudknot.run.collect.map_status import REASONS, MapStatus, explain
from cloudknot.run.jobs.history import find_jobs
from cloudknot.run.jobs.retries.retry import Choices, start_round
from cloudknot.run.jobs.retries.successor import _refuse_other_place
from cloudknot.run.submit.chunks import chunksize
from cloudknot.run.submit.dependencies import Source, refuse_other_bucket
from cloudknot.run.submit.rounds import open_run
from cloudknot.run.submit.start_run import start_run
from cloudknot.run.submit.stored_documents import parse_manifest
from cloudknot.run.submit.stored_runs import discard_run
from cloudknot.run.submit.submit_job import _submit_job, _unknown_submission
from cloudknot.worker.program.load import _check_cloudpickle, _check_python
from cloudknot.worker.program.stand_in import cloudknot as stand_in
from cloudknot.worker.wire.by_value import OtherPythonError
from cloudknot.worker.wire.container import TRY_AGAIN
from cloudknot.worker.wire.documents import to_document
from cloudknot.worker.wire.failure import EXITED, NO_INPUT, NOT_LOADED, RAISED, UNPICKLABLE, UNREADABLE, Failure
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import submission_record
from cloudknot.worker.wire.seal import WRONG_CHECKSUM, DamagedError, NewerFormatError
from tests.faulty_cloud.plan import Faults, Kill
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.functions import nap, square
from tests.helpers.waiting import until
from tests.integration.messages.catalogue import Area, World, error_of
from tests.unit.display.test_progress import BrokenLine
from tests.unit.run.collect.fake_job import FakeJob, future_of
from tests.unit.run.collect.test_element_errors import CASES

AREA = Area("run")
PLACE = Place(3, "0f5b-job:1", knot="pi-calc", show_log="cloudknot logs 0f5b-job 3 --cloud local")
OF_VIEW: dict[str, Any] = {
    "run": SimpleNamespace(keys=SimpleNamespace(knot="pi-calc"), manifest=SimpleNamespace(chunksize=1)),
    "mean_seconds": lambda: 0.0001,
    "reason_of_waiting": lambda: "CAPACITY:x",
}
UNUSABLE_DATA = [
    DamagedError(WRONG_CHECKSUM),
    DamagedError("it belongs to other elements"),
    NewerFormatError(99),
    OtherPythonError("3.8"),
]


def _failure(kind: str, name: str = "", message: str = "", **more: Any) -> Failure:
    return Failure(kind, name, message, "Traceback ...", **more)


@AREA.case
def elements_without_result(world: World) -> list[BaseException]:
    return [lost_error(PLACE, ending(cast(Any, job))) for job, *_ in CASES.values()]


@AREA.case
def elements_with_stored_failure(world: World) -> list[BaseException]:
    other_versions = []
    for check in (lambda: _check_python("3.9"), lambda: _check_cloudpickle("3.1.0", "2.2.1")):
        try:
            check()
        except RuntimeError as error:
            other_versions.append(_failure(NOT_LOADED, "RuntimeError", str(error)))
    failures = [
        _failure(EXITED, "SystemExit", "3", exit_code=3),
        _failure(UNPICKLABLE, "TypeError", "cannot pickle '_thread.lock' object"),
        _failure(NOT_LOADED, "ModuleNotFoundError", "No module named 'pandas'"),
        _failure(NOT_LOADED, "ValueError", "bad marshal data"),
        *other_versions,
        _failure(RAISED, "Odd", "x"),
        _failure(RAISED, "Odd", "x", source="element 7 of job 1a"),
        _failure(NO_INPUT, source="element 7 of job 1a"),
    ]
    return [load_exception(failure, PLACE) for failure in failures]


@AREA.case
def result_that_session_cannot_unpickle(world: World) -> BaseException:
    return unpickling_error(PLACE, ModuleNotFoundError("No module named 'pandas'"))


@AREA.case
def results_that_must_not_be_unpickled(world: World) -> list[BaseException]:
    return [unusable_error(PLACE, error) for error in UNUSABLE_DATA]


@AREA.case
def inputs_that_must_not_be_unpickled(world: World) -> list[BaseException]:
    failures = [
        _failure(kind, type(error).__name__, str(error), source=source)
        for error in UNUSABLE_DATA
        for kind, source in ((UNREADABLE, ""), (NOT_LOADED, ""), (UNREADABLE, "element 7 of job 1a"))
    ]
    message = f"is the result of element 7 of job 1a, which {UNUSABLE_DATA[0]}"
    failures.append(_failure(UNREADABLE, "DamagedError", message))
    return [load_exception(failure, PLACE) for failure in failures]


@AREA.case
def exception_that_holds_code_of_another_python(world: World) -> BaseException:
    class Local(Exception):
        """An exception that travels by value."""

    pickled = cloudpickle.dumps(Local("x"))
    return load_exception(_failure(RAISED, "Local", "x", pickled=pickled, python="3.8"), PLACE)


@AREA.case
def damaged_manifest_and_damaged_run_in_list(world: World) -> list[ck.CloudknotError]:
    knot = ck.Knot(name="messages-damaged", func=square, cloud=world.cloud)
    future = knot.map([1])
    future.result()
    keys, storage = future.job.keys, world.cloud.storage
    storage.put(keys.inputs, bytes(len(storage.get(keys.inputs))))
    errors = [error_of(lambda: future.job.input)]
    storage.put(keys.manifest, b"{}")
    errors.append(error_of(lambda: open_run(world.cloud, keys, future.job.job_id)))
    storage.put(keys.submission, b"{}")
    list(find_jobs([world.cloud], "messages-damaged", {}))
    discard_run(world.cloud, keys)
    return errors


@AREA.case
def manifest_of_newer_cloudknot(world: World) -> object:
    key = "cloudknot.jobs/messages/20260101T000000000000-000000/manifest.json"
    return parse_manifest(world.cloud.storage, key, b'{"version": 99}')


@AREA.case
def results_that_cannot_be_reached(world: World) -> BaseException:
    return given_up_error(PLACE, ck.CloudError("s3:GetObject got no answer: connection refused. Check the network."))


@AREA.case
def submission_without_answer(world: World) -> BaseException:
    return _unknown_submission(
        ck.CloudError("batch:SubmitJob got no answer."), ck.CloudError("batch:ListJobs got no answer.")
    )


@AREA.case
def chunks_too_small_for_array(world: World) -> object:
    return chunksize(1_000_000, 1, 1, None, 256)


@AREA.case
def source_in_another_bucket(world: World) -> None:
    run = SimpleNamespace(job_id="0f5b-job", keys=SimpleNamespace(bucket="theirs"))
    refuse_other_bucket(Source(cast(Any, run), list), "mine")


def power(x: int, exponent: int = 2) -> int:
    return int(x**exponent)


def inverse(x: float) -> float:
    return 1 / x


class KnotsOfCases:
    """The knots of the cases: one for each function, made for its first case."""

    def __init__(self) -> None:
        self._knots: dict[Any, ck.Knot] = {}

    def __call__(self, world: World, func: Any = square) -> ck.Knot:
        if func not in self._knots:
            self._knots[func] = ck.Knot(name=f"messages-{func.__name__}", func=func, cloud=world.cloud)
        return self._knots[func]


knot_of = KnotsOfCases()


@AREA.case
def image_of_earlier_version(world: World) -> list[BaseException]:
    knot = knot_of(world)
    job = knot.map([1]).job
    target = replace(knot._target, image="registry/cloudknot:" + 32 * "0")
    sources: list[Any] = [[1], Source(job._run, [], gather=True, function=b"function")]
    options = MapOptions.of_map()
    return [error_of(lambda each=each: start_run(world.cloud, target, each, None, options)) for each in sources]


@AREA.case
def map_of_function(world: World) -> object:
    return knot_of(world).map(square)


@AREA.case
def map_of_number(world: World) -> object:
    return knot_of(world).map(3)  # type: ignore[arg-type]


@AREA.case
def element_that_cannot_be_pickled(world: World) -> object:
    return knot_of(world).map([1, threading.Lock()])


@AREA.case
def starmap_element_without_arguments(world: World) -> object:
    return knot_of(world).map([1], starmap=True)


def add(x: int, y: int) -> int:
    return x + y


@AREA.case
def calls_that_function_does_not_take(world: World) -> list[BaseException]:
    knot = knot_of(world, add)
    maps: list[tuple[list[Any], bool]] = [([1], False), ([(1, 2)], False), ([(1, 2, 3)], True)]
    return [error_of(lambda each=each, star=star: knot.map(each, starmap=star)) for each, star in maps]


@AREA.case
def calls_that_decorated_function_may_not_take(world: World) -> None:
    @functools.wraps(add)
    def decorated(*arguments: int) -> int:
        return add(1, *arguments)

    CallCheck(make_program(decorated, []), {}, False).check_first(1)


@AREA.case
def keyword_that_function_lacks(world: World) -> object:
    return knot_of(world).map([1], kwargs={"exponent": 3})


@AREA.case
def keyword_that_cannot_be_pickled(world: World) -> object:
    return knot_of(world, power).map([1], kwargs={"exponent": threading.Lock()})


@AREA.case
def element_with_package_that_image_lacks(world: World) -> object:
    return knot_of(world).map([1, numpy.ones(2)])


@AREA.case
def keyword_with_package_that_image_lacks(world: World) -> object:
    return knot_of(world, power).map([1], kwargs={"exponent": numpy.ones(2)})


@AREA.case
def element_with_package_that_image_may_lack(world: World) -> None:
    needs = InputNeeds(ImagePackages(frozenset({"boto3"}), complete=False), "a-knot", None)
    pickle_into(io.BytesIO(), numpy.ones(2), None, needs)


def _negative_fails(x: int) -> int:
    if x < 0:
        raise ValueError(x)
    return x


@AREA.case
def retry_with_wrong_or_without_new_function(world: World) -> list[BaseException]:
    """Make the refusals of ``retry_failed(knot=...)``, and the warning of a retry with the earlier function."""
    future = ck.Knot(name="messages-again", func=_negative_fails, cloud=world.cloud).map([-1])
    future.exception()
    job = future.job
    two = ck.Knot(name="messages-again", func=lambda x, y: x, cloud=world.cloud)
    future.retry_failed().exception()
    elsewhere = world.cloud.in_bucket("another-bucket")
    wrong = [4, "another-knot", two]
    return [
        *(error_of(lambda knot=knot: job.retry_failed(knot=knot)) for knot in wrong),  # type: ignore[misc]
        error_of(lambda: _refuse_other_place("messages-again", elsewhere, world.cloud)),
    ]


@AREA.case
def call_of_stand_in_for_cloudknot(world: World) -> object:
    return stand_in.Absent("cloudknot.Knot")()


@AREA.case
def keyword_for_script(world: World) -> None:
    script = world.path / "run.py"
    script.write_text("print(1)")
    CallCheck(make_script(script), {"x": 1}, False).check_kwargs()


@AREA.case
def dependency_of_another_type(world: World) -> object:
    return knot_of(world).map([1], depends_on=[3])  # type: ignore[list-item]


@AREA.case
def too_many_dependencies(world: World) -> object:
    return knot_of(world).map([1], depends_on=[f"job-{number}" for number in range(21)])


@AREA.case
def unknown_job(world: World) -> object:
    return ck.BatchJob("no-such-job", cloud=world.cloud).status


@AREA.case
def logs_of_missing_element(world: World) -> object:
    future = knot_of(world).map([1])
    future.result()
    return list(future.job.logs(1))


@AREA.case
def reduction_of_empty_map(world: World) -> object:
    return knot_of(world).map([]).reduce(sum)


@AREA.case
def reduction_by_function_of_two_arguments(world: World) -> object:
    return knot_of(world).map([1]).reduce(lambda a, b: a + b)


@AREA.case
def reduction_with_other_requirements(world: World) -> object:
    return knot_of(world).map([1]).reduce(sum, requirements=["packaging==24.0"])


@AREA.case
def calls_on_running_job(world: World) -> list[BaseException]:
    future = knot_of(world, nap).map([600.0])
    calls = (lambda: future.result(0.01), lambda: future[0].result(0.01), future.retry_failed)
    try:
        return [error_of(call) for call in calls]
    finally:
        future.cancel()


@AREA.case
def clobbered_job(world: World) -> object:
    future = knot_of(world).map([1])
    future.result()
    future.job.clobber()
    return ck.BatchJob(future.job.job_id, cloud=world.cloud).result()


@AREA.case
def retry_during_retry_of_another_session(world: World) -> object:
    future = knot_of(world, inverse).map([0])
    future.exception()
    keys, manifest = future.job.keys, future.job.manifest
    world.cloud.storage.put(keys.round(1), replace(manifest, round=1).to_document(keys.round(1)))
    record = submission_record(keys.job_name(1), manifest, ["the job of the other session"])
    world.cloud.storage.put(keys.submission_of(1), to_document(record, keys.submission_of(1)))
    # This session has not seen the round of the other one.
    return start_round(world.cloud, future.job._run.rounds, [0], Choices(Overrides.make()))


@AREA.case
def failed_dependency_that_batch_has_deleted(world: World) -> object:
    future = knot_of(world, inverse).map([0])
    future.exception()
    until(lambda: future.job.done)
    long_ago = replace(future.job.manifest, created="2026-01-01T00:00:00+00:00")
    world.cloud.storage.put(future.job.keys.manifest, long_ago.to_document(future.job.keys.manifest))
    FaultSwitches(world.cloud).forget(future.job.job_id)
    return knot_of(world).map([1], depends_on=ck.BatchJob(future.job.job_id, cloud=world.cloud))


@AREA.case
def run_without_job(world: World) -> object:
    keys = RunKeys.of(world.cloud.bucket, "messages", "20260101T000000000000-000000")
    future = knot_of(world).map([1])
    world.cloud.storage.put(keys.manifest, future.job.manifest.to_document(keys.manifest))
    future.result()
    try:
        return open_run(world.cloud, keys, "no-job")
    finally:
        world.cloud.storage.delete(keys.manifest)


@AREA.case
def deleted_job_queue(world: World) -> None:
    def refuse(*arguments: object, **request: object) -> None:
        raise ck.CloudError("AWS refused batch:SubmitJob: JobQueue pi-calc does not exist", code="ClientException")

    cloud = SimpleNamespace(door=SimpleNamespace(call_once=refuse), command=Cloud("eu-west-1").command)
    submission = SimpleNamespace(manifest=SimpleNamespace(knot="pi-calc"))
    _submit_job(cast(Any, cloud), cast(Any, submission), cast(Any, {}))


@AREA.case
def collector_that_fails(world: World) -> BaseException | None:
    job = FakeJob(square, [1])
    job.silence = ZeroDivisionError("a fault of cloudknot's own")
    with _logging_off():
        return cast("BaseException | None", future_of(job).exception())


@contextmanager
def _logging_off() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@AREA.case
def reasons_of_batch_in_tables(world: World) -> list[BaseException]:
    jobs = [{"status": "FAILED", "statusReason": f"{wording.reason} x"} for wording in (*WORDINGS, *STUCK)]
    jobs.append({"status": "FAILED", "attempts": [{"container": {"exitCode": TRY_AGAIN}}]})
    return [lost_error(PLACE, ending(cast(Any, job))) for job in jobs]


@AREA.case
def reasons_of_waiting_jobs(world: World) -> list[str]:
    return [explain("pi-calc", f"{reason} x") for reason, _ in REASONS]


@AREA.case
def warning_of_waiting_job(world: World) -> None:
    world.patch.setattr("cloudknot.run.collect.map_status.FIRST", 0.0)
    view = SimpleNamespace(name="pi-calc", states={"RUNNABLE": 1}, **OF_VIEW)
    MapStatus(cast(Any, view), ElementTable(1)).update()


@AREA.case
def advice_for_short_calls(world: World) -> None:
    world.patch.setattr("cloudknot.run.collect.map_status.WORTHWHILE", 0.0)
    world.patch.setattr("cloudknot.run.collect.map_status.FASTER", 0.0)
    table = ElementTable(1000)
    status = MapStatus(cast(Any, SimpleNamespace(name="pi-calc", states={}, **OF_VIEW)), table)
    for first in (0, 50):
        table.end(range(first, first + 50), CANCELLED)
        status.update()


@AREA.case
def outage(world: World) -> None:
    Outages().warn(ck.CloudError("s3:ListObjectsV2 got no answer. Check the network, then try again."), 0, 1)


@AREA.case
def progress_lines_that_fail(world: World) -> None:
    ProgressLine(3, BrokenLine()).show(Snapshot(1))

    def fail(name: str, count: int) -> None:
        raise OSError("no terminal")

    world.patch.setattr("cloudknot.display.progress._line", fail)
    progress_line("pi-calc", 3, True)


@AREA.case
def last_results_of_cancelled_map_unreadable(world: World) -> None:
    job = FakeJob(square, [1, 2])
    future = future_of(job)
    job.silence = ck.CloudError("s3:ListObjectsV2 got no answer.")
    future.cancel()


@AREA.case
def machine_that_cannot_start_threads(world: World) -> None:
    # The system has no room for a stack of this size.
    size = threading.stack_size(1 << 46)
    try:
        future_of(FakeJob(square, [1]))
    finally:
        threading.stack_size(size)


@AREA.case
def stuck_job_that_cannot_be_ended(world: World) -> object:
    def terminate(reason: str) -> None:
        raise ck.CloudError("AWS refused batch:TerminateJob.")

    job = FakeJob(square, [1])
    job.terminate = terminate
    reason = "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
    job.end(0, status="FAILED", statusReason=reason, isCancelled=True)
    return future_of(job).exception()


@AREA.case
def memory_growth_to_its_limit(world: World) -> object:
    knot = ck.Knot(name="messages-grown", func=square, memory=500, memory_growth=4, cloud=world.cloud)
    with FaultSwitches(world.cloud).on(Faults(kills=(Kill("memory"),))):
        return knot.map([1]).exception()


@AREA.case
def earlier_bucket_that_may_not_be_read(world: World) -> None:
    def refuse(prefix: str) -> None:
        raise ck.PermissionDeniedError("Your AWS credentials do not allow s3:ListBucket.")

    earlier = SimpleNamespace(bucket="earlier", storage=SimpleNamespace(folders=refuse, keys=refuse, pages=refuse))
    find_jobs([world.cloud, cast(Any, earlier)], "messages-square", {})
