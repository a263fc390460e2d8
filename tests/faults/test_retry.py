"""`retry_failed` runs only elements without a result, and the list is complete at the end. The cloud is embedded."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import pytest

import cloudknot as ck
from cloudknot.aws import batch
from cloudknot.errors import JobCancelledError
from cloudknot.options.choices import Overrides
from cloudknot.run.jobs.retries.retry import Choices, start_round
from cloudknot.run.submit.rounds import open_run
from tests.faulty_cloud.plan import Faults, Kill
from tests.helpers.counting import hook
from tests.helpers.waiting import LONG, until


def count_call(folder, index):
    """Record a call of the function for an element."""
    with open(os.path.join(folder, str(index)), "a") as file:
        file.write("x")


def calls_of(folder, index):
    """Return how often the function was called for an element."""
    with open(os.path.join(folder, str(index))) as file:
        return len(file.read())


def calls(folder):
    """Return how often the function was called for each element."""
    return {int(path.name): len(path.read_text()) for path in folder.iterdir() if path.name.isdecimal()}


def fail_without_file(folder, index):
    """Fail for every third element until the file exists."""
    count_call(folder, index)
    if index % 3 == 0 and not os.path.exists(os.path.join(folder, "ready")):
        raise LookupError(f"{index} is not ready")
    return index * 10, os.environ.get("GREETING")


def inputs(folder, count):
    """Return the input of a map of ``count`` elements."""
    return [(str(folder), index) for index in range(count)]


def wait_for_end(job):
    """Wait until a job has ended."""
    return until(lambda: job.status in ("SUCCEEDED", "FAILED"))


# One element is a plain job, and several are an array job. The last map has fewer elements than its chunk size.
@pytest.mark.parametrize(("count", "chunksize"), [(1, 1), (7, 1), (20, 4), (20, 30)])
def test_retry_runs_only_failed_elements(knot_of, tmp_path, count, chunksize):
    knot = knot_of(fail_without_file)
    future = knot.map(inputs(tmp_path, count), starmap=True, chunksize=chunksize, env_vars={"GREETING": "hello"})
    with pytest.raises(LookupError, match="0 is not ready"):
        future.result(LONG)
    (tmp_path / "ready").touch()
    again = future.retry_failed()
    assert again.result(LONG) == [(index * 10, "hello") for index in range(count)]
    assert calls(tmp_path) == {index: 2 if index % 3 == 0 else 1 for index in range(count)}
    assert again.job is future.job
    assert future.job.result(LONG) == again.result()
    assert len(future.job.job_ids) == 1
    # No element is without a result any more, so nothing is submitted.
    assert again.retry_failed() is again


def return_large_value(folder, index):
    """Return more than a pack holds, once the file exists."""
    count_call(folder, index)
    if not os.path.exists(os.path.join(folder, "ready")):
        raise LookupError(f"{index} is not ready")
    return bytes([index]) * 9_000_000


@pytest.mark.parametrize("chunksize", [1, 3])
def test_retry_stores_large_results_of_failed_elements(knot_of, tmp_path, chunksize):
    future = knot_of(return_large_value).map(inputs(tmp_path, 3), starmap=True, chunksize=chunksize)
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    again = future.retry_failed()
    assert [(len(value), value[0]) for value in again.result(LONG)] == [(9_000_000, index) for index in range(3)]
    later = ck.BatchJob(again.job.job_id, cloud=future.job._cloud)
    assert [len(value) for value in later.result(LONG)] == [9_000_000] * 3
    assert calls(tmp_path) == dict.fromkeys(range(3), 2)


def exit_at_five(folder, index):
    count_call(folder, index)
    if index == 5:
        os._exit(7)
    return index


def test_retry_fails_only_for_element_that_ended_its_process(knot_of, tmp_path):
    future = knot_of(exit_at_five).map(inputs(tmp_path, 10), starmap=True, chunksize=4)
    with pytest.raises(
        ck.WorkerDiedError,
        match=r"^Element (4|5) .*exit code 7\. .*Another element of its chunk may be the cause\. .*chunksize=1",
    ):
        future.result(LONG)
    assert {index for index, element in enumerate(future) if element.exception()} <= {4, 5, 6, 7}
    wait_for_end(future.job)
    again = future.retry_failed()
    with pytest.raises(ck.WorkerDiedError, match=r"^Element 5 .*exit code 7\. "):
        again.result(LONG)
    assert [index for index, element in enumerate(again) if element.exception()] == [5]


def test_each_retry_shows_its_own_failures_until_all_elements_succeed(knot_of, tmp_path):
    def fail_index_times(folder, index):
        count_call(folder, index)
        count = calls_of(folder, index)
        if count <= index:
            raise LookupError(f"call {count}")
        return index

    knot = knot_of(fail_index_times)
    future = knot.map(inputs(tmp_path, 4), starmap=True)
    for number in (1, 2, 3):
        with pytest.raises(LookupError, match=f"call {number}"):
            future.result(LONG)
        errors = [type(element.exception()) for element in future]
        assert errors == [type(None)] * number + [LookupError] * (4 - number)
        future = future.retry_failed()
    assert future.result(LONG) == [0, 1, 2, 3]
    assert calls(tmp_path) == {0: 1, 1: 2, 2: 3, 3: 4}


def test_earlier_session_sees_retry_of_later_session(cloud, knot_of, tmp_path):
    knot = knot_of(fail_without_file)
    future = knot.map(inputs(tmp_path, 5), starmap=True, chunksize=2)
    with pytest.raises(LookupError):
        future.result(LONG)
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    later = ck.Knot(name=knot.name, cloud=ck.LocalCloud(cloud.directory)).jobs[-1]
    assert later.job_id == future.job.job_id
    expected = [(index * 10, None) for index in range(5)]
    assert later.retry_failed().result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1}
    # The session that submitted the map reads the results of the retry, and so does a third session.
    assert future.job.result(LONG) == expected
    assert until(lambda: future.job.status == "SUCCEEDED")
    assert ck.BatchJob(later.job_ids[0], cloud=cloud).result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1}


def test_retry_with_new_resources_keeps_results_stored_before_kill(knot_of, switches, tmp_path):
    def stuck_at_first(folder, index):
        import time

        count_call(folder, index)
        # The kill comes with the first pack, which is stored while this element waits.
        if index == 3 and not os.path.exists(os.path.join(folder, "ready")):
            time.sleep(600)
        return index

    with switches.on(Faults(kills=(Kill("memory", when="stored", attempts=10),))):
        future = knot_of(stuck_at_first).map(inputs(tmp_path, 6), starmap=True, chunksize=6)
        with pytest.raises(ck.OutOfMemoryError):
            future.result(LONG)
        kept = [element.result() for element in future if element.exception() is None]
    assert kept == list(range(len(kept))) != []
    assert len(kept) < 4
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    again = future.retry_failed(memory=9000, vcpus=2, timeout=90, retries=2)
    assert again.result(LONG) == list(range(6))
    assert all(count == 1 for index, count in calls(tmp_path).items() if index in kept)
    (job,) = again.job._view.describe_jobs()
    requested = {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}
    assert requested == {"MEMORY": "9000", "VCPU": "2"}
    assert job["timeout"] == {"attemptDurationSeconds": 90}


def test_retry_runs_only_failed_independent_jobs(knot_of, tmp_path):
    future = knot_of(fail_without_file).map(inputs(tmp_path, 4), starmap=True, job_type="independent")
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    assert future.retry_failed().result(LONG) == [(index * 10, None) for index in range(4)]
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2}


def wait_for(folder, index):
    import time

    count_call(folder, index)
    while not os.path.exists(os.path.join(folder, "ready")):
        time.sleep(0.05)
    return index


INVALID_OPTIONS = [
    *[("memory", value) for value in (1, -1, "2 pounds", 2.5)],
    *[("timeout", value) for value in (59, "long")],
    *[("vcpus", 0), ("retries", 0), ("retries", 11), ("progress", "yes")],
    *[("chunksize", value) for value in (0, -3, "auto", 1.5, True)],
]


def test_retry_refuses_running_job_and_invalid_options_but_accepts_cancelled_job(knot_of, tmp_path):
    future = knot_of(wait_for).map(inputs(tmp_path, 2), starmap=True)
    until(lambda: len(calls(tmp_path)) == 2)
    with pytest.raises(ck.JobRunningError, match=r"is still running.*Nothing was submitted.*retry_failed"):
        future.retry_failed()
    for target in (future, future.job):
        for name, value in INVALID_OPTIONS:
            with pytest.raises(ck.CloudknotInputError, match=f"^{name}="):
                target.retry_failed(**{name: value})
        with pytest.raises(TypeError, match=r"retry_failed has no parameter 'memroy'\. Near matches: memory\."):
            target.retry_failed(memroy=2000)
    assert future.job._run.rounds.newest.number == 0
    assert future.cancel()
    (tmp_path / "ready").touch()
    again = future.retry_failed()
    assert again.result(LONG) == [0, 1]
    assert future.cancelled()


def test_concurrent_retries_of_three_sessions_run_each_element_once(cloud, knot_of, tmp_path):
    future = knot_of(fail_without_file).map(inputs(tmp_path, 4), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    job_id = future.job.job_id
    jobs = [ck.BatchJob(job_id, cloud=ck.LocalCloud(cloud.directory)) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        retries = [pool.submit(job.retry_failed) for job in jobs]
        refused = [retry for retry in retries if isinstance(retry.exception(LONG), ck.JobRunningError)]
    assert len(refused) < len(retries)
    expected = [(index * 10, None) for index in range(4)]
    assert ck.BatchJob(job_id, cloud=cloud).result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2}


def test_slow_session_submits_nothing_after_its_claim_became_void(cloud, knot_of, tmp_path, monkeypatch):
    future = knot_of(fail_without_file).map(inputs(tmp_path, 1), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    job = future.job
    monkeypatch.setattr("cloudknot.run.jobs.retries.retry.CLAIM_PATIENCE", 0.2)
    later = ck.BatchJob(job.job_id, cloud=ck.LocalCloud(cloud.directory)).retry_failed

    class Slow:
        """A storage that stalls between the claim and the submission, while another session retries the run."""

        def __getattr__(self, name):
            return getattr(cloud.storage, name)

        def put(self, key, body):
            cloud.storage.put(key, body)
            assert later().result(LONG) == [(0, None)]

    slow = copy(cloud)
    slow.__dict__["storage"] = Slow()
    with pytest.raises(ck.JobRunningError, match="Another session"):
        start_round(slow, open_run(cloud, job.keys, job.job_id).rounds, [0], Choices(Overrides.make()))
    assert calls(tmp_path) == {0: 2}
    assert ck.BatchJob(job.job_id, cloud=cloud).result(LONG) == [(0, None)]


def test_logs_include_all_rounds(knot_of, tmp_path):
    def shout(folder, index):
        print(f"call {index}")
        return fail_without_file(folder, index)

    future = knot_of(shout).map(inputs(tmp_path, 2), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    future.retry_failed().result(LONG)
    until(lambda: list(future.job.logs(0)).count("call 0") == 2)
    until(lambda: list(future.job.logs(1)) == ["call 1"])


def count_and_return(folder, index):
    count_call(folder, index)
    return index


def memory_of(job):
    (described,) = job._view.describe_jobs()
    return next(item["value"] for item in described["container"]["resourceRequirements"] if item["type"] == "MEMORY")


def test_memory_grows_until_job_has_enough(knot_of, switches, tmp_path):
    knot = knot_of(count_and_return, memory=1000, memory_growth=2)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        future = knot.map(inputs(tmp_path, 1), starmap=True)
        until(lambda: future.job._run.rounds.newest.number >= 1)
    assert future.result(LONG) == [0]
    memory = [round.stored_choices["overrides"]["memory"] for round in future.job._run.rounds]
    assert memory[:2] == [None, 2000]
    # The fault may also have hit round 1, before the test switched it off.
    assert memory[2:] in ([], [4000])
    assert memory_of(future.job) == str(memory[-1])


def test_memory_growth_runs_only_killed_elements_and_stops_at_its_limit(knot_of, switches, tmp_path):
    knot = knot_of(count_and_return, memory=1000, memory_growth=3)
    with switches.on(Faults(kills=(Kill("memory", children=(0,), attempts=10),))):
        future = knot.map(inputs(tmp_path, 3), starmap=True)
        with pytest.raises(ck.OutOfMemoryError, match=r"8,000 MiB"):
            future.result(LONG)
    assert [round.stored_choices["overrides"]["memory"] for round in future.job._run.rounds] == [None, 3000, 8000]
    assert [list(round.elements) for round in future.job._run.rounds] == [[0, 1, 2], [0], [0]]
    assert calls(tmp_path) == {1: 1, 2: 1}


@pytest.mark.parametrize("chunksize", [None, 3])
def test_killed_retry_continues_after_its_stored_results(knot_of, switches, tmp_path, chunksize):
    """Every third of 18 elements fails at first. Each child of the retry is killed once it has stored a pack."""

    def slow(folder, index):
        import time

        if os.path.exists(os.path.join(folder, "ready")):
            time.sleep(0.3)
        return fail_without_file(folder, index)[0]

    future = knot_of(slow).map(inputs(tmp_path, 18), starmap=True, chunksize=18)
    with pytest.raises(LookupError):
        future.result(LONG)
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    with switches.on(Faults(kills=(Kill("host", when="stored"),))):
        again = future.retry_failed(chunksize=chunksize)
        assert again.result(LONG) == [10 * index for index in range(18)]
        killed = switches.injected()["killed: host"]
    assert killed == (1 if chunksize is None else 2)
    counts = calls(tmp_path)
    assert all(counts[index] == 1 for index in range(18) if index % 3)
    # In each killed child, the next attempt ran only the elements whose results were not stored yet.
    retried = [counts[index] - 1 for index in range(0, 18, 3)]
    assert set(retried) <= {1, 2}
    size = chunksize or 6
    for start in range(0, 6, size):
        child = retried[start : start + size]
        assert child[0] == 1
        assert sum(child) < 2 * size
    assert future.job._run.rounds.newest.number == 1


def test_retry_in_later_session_continues_memory_growth_of_dead_session(cloud, knot_of, switches, tmp_path):
    """The first session dies just after it has submitted the round with twice the memory."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    (tmp_path / "script.py").write_text(SESSION_KILLED_DURING_GROWTH)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        command = [sys.executable, "script.py"]
        dead = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG, cwd=tmp_path)
        assert dead.returncode == -signal.SIGKILL, dead.stderr
        job = ck.Knot(name="dies-growing", cloud=cloud).jobs[-1]
        with pytest.raises(
            ck.OutOfMemoryError, match=r"2,000 MiB.*only while .*with 4,000 MiB: future\.retry_failed\(\)"
        ):
            job.result(LONG)
        wait_for_end(job)
    again = ck.Knot(name="dies-growing", cloud=cloud).jobs[-1].retry_failed()
    assert again.result(LONG) == [5]
    assert [round.stored_choices["overrides"]["memory"] for round in again.job._run.rounds] == [None, 2000, 4000]


def test_memory_of_independent_jobs_grows_in_one_round(knot_of, switches, tmp_path):
    knot = knot_of(count_and_return, memory=1000, memory_growth=8)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        future = knot.map(inputs(tmp_path, 3), starmap=True, job_type="independent")
        with pytest.raises(ck.OutOfMemoryError, match=r"8,000 MiB.*memory has grown to 8 times .*memory=16000\)"):
            future.result(LONG)
    assert [round.stored_choices["overrides"]["memory"] for round in future.job._run.rounds] == [None, 8000]
    assert len(future.job.job_ids) == 1


SESSION_KILLED_DURING_GROWTH = """
import os, signal
import cloudknot as ck
from tests.helpers.counting import hook

def late(index):
    return index

cloud = ck.LocalCloud(os.environ["CLOUDKNOT_LOCAL_DIR"])
future = ck.Knot(name="dies-growing", func=late, memory=1000, memory_growth=2, cloud=cloud).map([5])

def die(key):
    if key.endswith("submission.1.json"):
        os.kill(os.getpid(), signal.SIGKILL)

hook(cloud.door, "put_quickly", before=die)
future.result()
"""

SUBMITTING_SESSION = """
import sys
import cloudknot as ck

def late(folder, index):
    import os, time
    while not os.path.exists(os.path.join(folder, "ready")):
        time.sleep(0.05)
    return index

knot = ck.Knot(name="grows", func=late, memory=1000, memory_growth=2, cloud="local")
print(knot.map([(sys.argv[1], 5)], starmap=True).job.job_id)
"""


def test_retry_in_later_session_doubles_memory(cloud, switches, tmp_path):
    """Memory grows by itself only while the session that submitted the map runs. That session has ended."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", SUBMITTING_SESSION, str(tmp_path)]
    submitted = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LONG, check=True, cwd=tmp_path
    )
    later = ck.BatchJob(submitted.stdout.strip(), cloud=cloud)
    until(lambda: later.status == "RUNNING")
    switches.kill(later.job_id, "memory")
    with pytest.raises(ck.OutOfMemoryError, match="1,000 MiB"):
        later.result(LONG)
    assert later._run.rounds.newest.number == 0
    wait_for_end(later)
    (tmp_path / "ready").touch()
    assert later.retry_failed().result(LONG) == [5]
    assert memory_of(later) == "2000"


def wait_unless_first(folder, index):
    """Return at once for element 0. Wait for a file for other elements."""
    while index and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.02)
    return index


@pytest.mark.parametrize("elsewhere", [False, True])
def test_terminated_job_does_not_grow_its_memory(cloud, knot_of, switches, tmp_path, elsewhere):
    knot = knot_of(wait_unless_first, memory=1000, memory_growth=2)
    with switches.on(Faults(kills=(Kill("memory", children=(0,), attempts=1),))):
        future = knot.map(inputs(tmp_path, 2), starmap=True)
        until(lambda: future.job.states.get("FAILED"))
        job = ck.BatchJob(future.job.job_id, cloud=ck.LocalCloud(cloud.directory)) if elsewhere else future.job
        job.terminate("That will do")
        with pytest.raises(ck.OutOfMemoryError):
            future.result(LONG)
    assert isinstance(future[1].exception(LONG), JobCancelledError)
    assert future.job._run.rounds.newest.number == 0
    assert job.status == "FAILED"
    (tmp_path / "go").touch()
    assert future.retry_failed().result(LONG) == [0, 1]


def test_retry_waits_for_running_memory_growth(cloud, switches, tmp_path):
    """The waiting retry must not hold a lock that the collector needs."""
    own, gate = ck.LocalCloud(cloud.directory), threading.Event()

    def hold(parsed, **_):
        if threading.current_thread().name == "cloudknot-collector" and parsed["jobs"][0]["status"] == "FAILED":
            gate.wait(LONG)

    knot = ck.Knot(name="grows-meanwhile", func=wait_unless_first, cloud=own, memory=1000, memory_growth=2)
    own.client("batch").meta.events.register("after-call.batch.DescribeJobs", hold)
    with switches.on(Faults(kills=(Kill("memory", attempts=1),))), ThreadPoolExecutor(1) as pool:
        future = knot.map(inputs(tmp_path, 1), starmap=True)
        until(lambda: future.job.status == "FAILED")
        retry = pool.submit(future.retry_failed)
        # Other calls go through while the retry waits.
        until(lambda: future._all_waiters.calls)
        assert future.job.status == "FAILED"
        switches.off()
        gate.set()
        assert retry.result(LONG).result(LONG) == [0]
    assert [round.stored_choices["overrides"]["memory"] for round in future.job._run.rounds] == [None, 2000]


def test_retry_succeeds_after_interrupted_retry(cloud, knot_of, tmp_path):
    future = knot_of(fail_without_file).map(inputs(tmp_path, 1), starmap=True)
    assert isinstance(future.exception(LONG), LookupError)
    wait_for_end(future.job)
    (tmp_path / "ready").touch()
    own = ck.LocalCloud(cloud.directory)
    job, refused = ck.BatchJob(future.job.job_id, cloud=own), []

    def refuse(key):
        if "todo" in key and not refused:
            refused.append(key)
            raise KeyboardInterrupt

    hook(own.door, "put_quickly", before=refuse)
    with pytest.raises(KeyboardInterrupt):
        job.retry_failed()
    assert job.retry_failed().result(LONG) == [(0, None)]
    assert len(refused) == 1


def test_results_determine_status_of_forgotten_job_that_map_depends_on(cloud, knot_of, switches, tmp_path):
    knot = knot_of(fail_without_file)
    failed, succeeded = knot.map(inputs(tmp_path, 2), starmap=True), knot.map([(str(tmp_path), 1)], starmap=True)
    for future in (failed, succeeded):
        wait_for_end(future.job)
        long_ago = replace(future.job.manifest, created="2026-01-01T00:00:00+00:00")
        cloud.storage.put(future.job.keys.manifest, long_ago.to_document(future.job.keys.manifest))
        switches.forget(future.job.job_id)
    later = [ck.BatchJob(future.job.job_id, cloud=cloud) for future in (failed, succeeded)]
    assert [job.status for job in later] == ["FAILED", "SUCCEEDED"]
    # A map may depend on a forgotten job that succeeded, but not on one that failed.
    assert knot.map([(str(tmp_path), 4)], starmap=True, depends_on=later[1]).result(LONG)[0][0] == 40
    with pytest.raises(
        ck.CloudknotInputError, match=r"ended without a result for some elements\. .*forgets .*retry_failed"
    ):
        knot.map([(str(tmp_path), 4)], starmap=True, depends_on=later)


def test_job_not_yet_described_by_batch_is_submitted_and_can_be_terminated(cloud, knot_of, tmp_path):
    submitted = knot_of(wait_unless_first).map(inputs(tmp_path, 2), starmap=True).job
    own, lags = ck.LocalCloud(cloud.directory), [True]

    def lag(parsed, **_):
        if lags:
            parsed["jobs"] = []

    own.client("batch").meta.events.register("after-call.batch.DescribeJobs", lag)
    job = ck.BatchJob(submitted.job_id, cloud=own, keys=submitted.keys)
    assert (job.status, job.done) == ("SUBMITTED", False)
    job.terminate("At once")
    lags.clear()
    assert job._view.describe_jobs()[0]["isTerminated"]
    assert wait_for_end(job)


def test_forgotten_job_can_be_clobbered(cloud, knot_of, switches, tmp_path):
    future = knot_of(fail_without_file).map(inputs(tmp_path, 2), starmap=True)
    # Wait for the processes of the job: after `forget` they would go on, and could store results after `clobber`.
    future.exception(LONG)
    job = until(lambda: future.job.status in ("SUCCEEDED", "FAILED") and future.job)
    switches.forget(job.job_id)
    job.clobber()
    assert list(cloud.storage.keys(job.keys.prefix)) == []


def test_retry_of_job_clobbered_meanwhile_is_terminated_and_leaves_no_objects(cloud, knot_of, tmp_path):
    future = knot_of(fail_then_hang).map(inputs(tmp_path, 2), starmap=True)
    assert isinstance(future.exception(LONG), LookupError)
    until(lambda: future.job.status == "FAILED")
    own = ck.LocalCloud(cloud.directory)
    job = ck.BatchJob(future.job.job_id, cloud=own)
    clobbered = []

    def clobber(**_):
        if not clobbered:
            clobbered.append(ck.BatchJob(future.job.job_id, cloud=cloud))
            clobbered[0].clobber()

    own.client("batch").meta.events.register("before-call.batch.SubmitJob", clobber)
    with pytest.raises(ck.ResourceDoesNotExistException, match="was clobbered"):
        job.retry_failed()
    name = future.job.keys.job_name(1)
    (submitted,) = batch.find_by_name(cloud.door, future.job.job_queue, name)
    assert batch.describe_jobs(cloud.door, [submitted["jobId"]])[0]["isTerminated"]
    assert list(cloud.storage.keys(job.keys.prefix)) == []


def fail_then_hang(folder, index):
    """Fail in the first call for an element. Later calls never return."""
    count_call(folder, index)
    while calls_of(folder, index) > 1:
        time.sleep(0.02)
    raise LookupError(index)
