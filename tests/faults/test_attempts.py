"""Results and errors stay right when Batch and the worker disagree about attempts. Batch and S3 are embedded."""

import os
import signal
import time
from dataclasses import replace

import pytest

import cloudknot as ck
from cloudknot.worker.wire.container import TRY_AGAIN
from cloudknot.worker.wire.keys import RUNS
from tests.faulty_cloud.plan import Faults, Kill
from tests.helpers.waiting import LONG, until

CHUNK = 20
"""Elements of a child job in which one attempt overtakes another."""


def unique(seconds):
    """Return a value that no other attempt returns."""
    time.sleep(seconds)
    return os.environ["AWS_BATCH_JOB_ATTEMPT"], time.time_ns()


def attempt_and_child():
    """Return the numbers of this attempt and of its child job."""
    return os.environ["AWS_BATCH_JOB_ATTEMPT"], os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX", "0")


def wait_for(path):
    """Wait for a file, not much longer than the test would."""
    deadline = time.monotonic() + LONG
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


def overlapped(folder):
    """Return a value that no other attempt returns. The first attempt goes on once the second one has begun."""
    attempt, child = attempt_and_child()
    second = os.path.join(folder, f"second-{child}")
    if attempt == "2":
        open(second, "w").close()
    wait_for(second)
    time.sleep(0.05)
    return attempt, time.time_ns()


def scale(x, factor=1):
    return x * factor


def wait_for_end(job):
    """Wait until Batch shows the end of each job."""
    return until(lambda: {described["status"] for described in job._view.describe_jobs()} <= {"SUCCEEDED", "FAILED"})


@pytest.mark.parametrize(("count", "chunksize"), [(1, 1), (4, 1), (12, 6)])
def test_later_session_reads_same_results_as_first_despite_overlapping_attempts(
    cloud, knot_of, switches, tmp_path, count, chunksize
):
    """Each attempt computes different results, so a later session could read other results than the future showed."""
    # Batch gives up each first attempt at its start, and both attempts compute the elements at the same time.
    with switches.on(Faults(kills=(Kill("host", overlap=True),))):
        future = knot_of(overlapped).map([str(tmp_path)] * count, chunksize=chunksize)
        first_results = future.result(LONG)
        assert switches.injected()["overlapping: host"] == -(-count // chunksize)
        wait_for_end(future.job)
    # Batch has forgotten the first attempts, but they still run. Wait until they have stored their results, too.
    until(switches.is_idle)
    later = ck.BatchJob(future.job.job_id, cloud=cloud).result(LONG)
    assert later == first_results
    packs = [location for page in future.job._view.list_packs(0) for location, _ in page]
    assert len(packs) == len(set(packs))
    if chunksize == 1:
        assert sorted(location.first for location in packs) == list(range(count))


def test_stored_results_win_over_failed_status(knot_of, switches):
    with switches.on(Faults(kills=(Kill("docker", attempts=10),))):
        future = knot_of(unique).map([0, 0])
        assert [attempt for attempt, _ in future.result(LONG)] == ["1", "1"]
        wait_for_end(future.job)
    assert future.job.status == "FAILED"


@pytest.mark.parametrize(
    ("how", "kind", "attempts", "exit_code"),
    [
        ("host", ck.HostLostError, 10, None),
        ("spot", ck.SpotInterruptedError, None, None),
        ("memory", ck.OutOfMemoryError, 1, 137),
        ("pull", ck.ImagePullError, 10, None),
        ("start", ck.TaskStartError, 1, None),
    ],
)
def test_fault_in_every_attempt_raises_its_own_error_class(knot_of, switches, how, kind, attempts, exit_code):
    with switches.on(Faults(kills=(Kill(how, attempts=10, children=(1,)),))):
        future = knot_of(unique).map([0, 30])
        with pytest.raises(kind, match=rf"^Element 1 \(job {future.job.job_id}:1\) ") as caught:
            future.result(LONG)
    error = caught.value
    assert type(error) is kind
    assert (error.index, error.job_id, error.exit_code) == (1, f"{future.job.job_id}:1", exit_code)
    assert error.attempt == attempts or attempts is None
    assert error.reason
    assert error.log_url.startswith("http")
    assert future[0].result(LONG)[0] == "1"


def identity(x):
    return x


def total(results):
    return sum(results)


@pytest.fixture(scope="session")
def impatient(cloud):
    """Return a knot for a function. Its worker gives up on S3 after one second instead of ten minutes."""
    knots = {}

    def make(func):
        if func not in knots:
            choices = {"name": f"impatient-{len(knots)}", "func": func, "cloud": cloud, "requirements": []}
            knot = ck.Knot(**choices)
            tag = knot.image_uri.rpartition(":")[2]
            worker = cloud.directory / "images" / tag / "cloudknot_worker" / "s3" / "client.py"
            text = worker.read_text()
            assert "PATIENCE = 600.0\n" in text
            worker.write_text(text.replace("PATIENCE = 600.0\n", "PATIENCE = 1.0\n"))
            # The process that forks its jobs has loaded the worker already. It ends with the job definition.
            knot.clobber()
            knots[func] = ck.Knot(**choices)
        return knots[func]

    return make


@pytest.mark.parametrize("retries", [1, 2])
@pytest.mark.parametrize(
    "reading", ["inputs", "kwargs", "another map", "gathered by a function", "gathered by a knot"]
)
def test_outage_of_s3_uses_up_no_retries(cloud, impatient, knot_of, switches, reading, retries):
    """The worker reads different objects in each kind of map, and an outage may hit any of them."""
    first = knot_of(identity).map([2, 3])
    own = impatient(scale).map([2, 3])
    assert [future.result(LONG) for future in (first, own)] == [[2, 3], [2, 3]]
    submit = {
        "inputs": lambda: impatient(scale).map([2, 3], chunksize=2, retries=retries),
        "kwargs": lambda: impatient(scale).map([2, 3], chunksize=2, retries=retries, kwargs={"factor": 1}),
        "another map": lambda: impatient(scale).map(first, chunksize=2, retries=retries),
        "gathered by a function": lambda: own.reduce(total, retries=retries),
        "gathered by a knot": lambda: first.reduce(impatient(total), retries=retries),
    }[reading]
    # Only requests of the worker fail, not those of the client while it submits.
    only = "/outputs/" if reading in ("another map", "gathered by a knot") else f"GET /{cloud.bucket}/{RUNS}/"
    if reading == "gathered by a function":
        # The client reads the manifest of the source, so only reads of the function may fail. The client writes it.
        # A cut in the head would also spoil the answer to that.
        faults = Faults(truncated=1, cut=0.5, only="/function")
    else:
        faults = Faults(errors=1, services=("s3",), only=only)
    with switches.on(faults):
        future = submit()
        # The outage lasts until Batch starts another attempt.
        until(lambda: future.job.attempts)
    until(lambda: future.job.status in ("SUCCEEDED", "FAILED"))
    codes = [attempt["container"]["exitCode"] for attempt in future.job.attempts]
    assert (codes[0], codes[-1], set(codes)) == (TRY_AGAIN, 0, {TRY_AGAIN, 0})
    assert future.result(LONG) == (5 if "gathered" in reading else [2, 3])


def test_job_that_never_reaches_s3_fails_with_that_reason(impatient, switches):
    knot = impatient(scale)
    with switches.on(Faults(errors=1, services=("s3",), only="/outputs/")):
        future = knot.map([1])
        with pytest.raises(
            ck.BatchJobFailedError, match=r"could not reach S3 \(.*\) in its last .*Attempts: 10\."
        ) as caught:
            future.result(LONG)
    assert type(caught.value) is ck.BatchJobFailedError
    assert future.retry_failed().result(LONG) == [1]


def exit_process(folder, code):
    with open(os.path.join(folder, f"{time.time_ns()}"), "w"):
        os._exit(code)


@pytest.mark.parametrize("retries", [1, 2])
@pytest.mark.parametrize("code", [75, 137, 139])
def test_function_that_exits_gets_all_its_retries(knot_of, tmp_path, retries, code):
    """75 is EX_TEMPFAIL, the exit code of programs that ask to be called again later."""
    future = knot_of(exit_process).map([(str(tmp_path), code)], starmap=True, retries=retries)
    with pytest.raises(ck.BatchJobFailedError, match=f"exit code {code}"):
        future.result(LONG)
    assert len(list(tmp_path.iterdir())) == retries


def kill_worker_once(folder, deaths):
    """Kill the process that started the function's process, in the first calls."""
    with open(os.path.join(folder, f"{time.time_ns()}"), "w"):
        calls = len(os.listdir(folder))
    if calls <= deaths:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(LONG)
    return calls


@pytest.mark.parametrize(("retries", "deaths"), [(2, 1), (10, 3)])
def test_job_whose_worker_is_killed_gets_another_attempt(knot_of, tmp_path, retries, deaths):
    # In a container the kernel protects the first process from the others.
    future = knot_of(kill_worker_once).map([(str(tmp_path), deaths)], starmap=True, retries=retries)
    assert future.result(LONG) == [deaths + 1]
    # The result is there before Batch has noted the end of its attempt.
    attempts = until(lambda: future.job.attempts[deaths:] and future.job.attempts)
    assert [attempt["container"]["exitCode"] for attempt in attempts] == [137] * deaths + [0]


def kill_itself(folder):
    with open(os.path.join(folder, f"{time.time_ns()}"), "w"):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("retries", [1, 2])
def test_function_that_is_killed_gets_all_its_retries_and_no_more(knot_of, tmp_path, retries):
    future = knot_of(kill_itself).map([str(tmp_path)], retries=retries)
    with pytest.raises(ck.WorkerDiedError, match=r"exit code 137 \(SIGKILL") as caught:
        future.result(LONG)
    assert (caught.value.exit_code, len(os.listdir(tmp_path))) == (137, retries)


def test_results_of_forgotten_job_are_read_from_s3(cloud, knot_of, switches):
    future = knot_of(unique).map([0, 0, 0], chunksize=2)
    results = future.result(LONG)
    wait_for_end(future.job)
    switches.forget(future.job.job_id)
    job = knot_of(unique).jobs[-1]
    later = ck.BatchJob(job.job_id, cloud=cloud, keys=job.keys)
    assert later._view.describe_jobs() == []
    assert later.result(LONG) == results
    assert later.status == "SUCCEEDED"
    assert later.done


def test_forgotten_job_without_result_raises_result_missing_error(cloud, knot_of, switches):
    with switches.on(Faults(kills=(Kill("memory", attempts=10, children=(0,)),))):
        future = knot_of(unique).map([30, 0])
        with pytest.raises(ck.OutOfMemoryError):
            future.result(LONG)
        wait_for_end(future.job)
    switches.forget(future.job.job_id)
    # Batch describes a new job late, so the collector does not take a young job for a forgotten one.
    old = replace(future.job.manifest, created="2026-01-01T00:00:00+00:00")
    cloud.storage.put(future.job.keys.manifest, old.to_document(future.job.keys.manifest))
    later = ck.BatchJob(future.job.job_id, cloud=cloud, keys=future.job.keys)
    with pytest.raises(ck.ResultMissingError, match="no longer knows"):
        later.result(LONG)
    assert later.future()[1].result(LONG)[0] == "1"


def overtaken(folder, index):
    """Return a value that no other attempt returns. The second of two attempts overtakes the first one in a chunk."""
    attempt, child = attempt_and_child()
    at_end = os.path.join(folder, f"at-end-{child}")
    if attempt == "2" and index % CHUNK == CHUNK - 1:
        open(at_end, "w").close()
    if attempt == "1" and index % CHUNK == CHUNK // 2:
        wait_for(at_end)
    time.sleep(0.15 if attempt == "1" else 0.05)
    return attempt, time.time_ns()


def as_it_is(result):
    return result


@pytest.mark.parametrize("moment", ["start", "stored"])
def test_all_readers_have_same_results_despite_overlapping_attempts(cloud, knot_of, switches, tmp_path, moment):
    """The waiting future, a later session, a map of the results and a reduce read 6 maps of 60 elements."""
    knot, reader = knot_of(overtaken), knot_of(as_it_is)
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    with switches.on(Faults(kills=(Kill("host", when=moment, after=0.3, overlap=True),))):
        inputs = [[(str(folder), index) for index in range(3 * CHUNK)] for folder in folders]
        futures = [knot.map(elements, starmap=True, chunksize=CHUNK) for elements in inputs]
        waiting = [future.result(LONG) for future in futures]
        assert switches.injected()["overlapping: host"] == 18
    dependent = [reader.map(future).result(LONG) for future in futures]
    reduced = [future.reduce(list).result(LONG) for future in futures]
    # The processes of the lost hosts still run. Wait until they have stored their results, too.
    until(switches.is_idle)
    jobs = {job.job_id: job for job in ck.Knot(name=knot.name, cloud=cloud).jobs}
    later = [jobs[future.job.job_id].result(LONG) for future in futures]
    winners = {attempt for results in later for attempt, _ in results}
    assert winners == {"1", "2"}
    assert waiting == later == dependent == reduced


def unique_after(flag, late):
    """Return a value that no other process returns. Processes that start before the flag exists wait for a file."""
    if not os.path.exists(flag):
        wait_for(late)
    return os.getpid(), time.time_ns()


def test_retry_of_lost_elements_closes_their_gaps(cloud, knot_of, switches, tmp_path):
    flag, late, stored = tmp_path / "flag", tmp_path / "late", cloud.storage
    knot, reader = knot_of(unique_after), knot_of(as_it_is)
    with switches.on(Faults(kills=(Kill("host", after=0.05, overlap=True, attempts=10),))):
        future = knot.map([(str(flag), str(late))] * 2, starmap=True, chunksize=2)
        assert isinstance(future.exception(LONG), ck.HostLostError)
        assert switches.injected()["overlapping: host"] == 10
    flag.touch()
    retried = future.retry_failed()
    results = retried.result(LONG)
    keys = list(stored.keys(future.job.keys.outputs))
    # The ten processes still run. Wait until they have ended.
    late.touch()
    until(switches.is_idle)
    assert list(stored.keys(future.job.keys.outputs)) == keys
    assert ck.BatchJob(future.job.job_id, cloud=cloud).result(LONG) == results
    assert reader.map(retried).result(LONG) == results
