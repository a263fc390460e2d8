"""`retry_failed`: what failed runs again, what has a result does not, and the list is whole in the end."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

import cloudknot as ck
from cloudknot.aws import batch
from cloudknot.errors import JobCancelledError
from cloudknot.local import Faults, Kill
from cloudknot.run.jobs.retry import CLAIM_TIME
from tests.helpers.waiting import LONG, until


def note(folder, index):
    """Leave a trace of one call."""
    with open(os.path.join(folder, str(index)), "a") as file:
        file.write("x")


def called(folder, index):
    """How often the function was called for an element."""
    with open(os.path.join(folder, str(index))) as file:
        return len(file.read())


def calls(folder):
    """How often the function was called for each element."""
    return {int(path.name): len(path.read_text()) for path in folder.iterdir() if path.name.isdecimal()}


def needs_a_file(folder, index):
    """Elements of threes fail as long as there is no file."""
    note(folder, index)
    if index % 3 == 0 and not os.path.exists(os.path.join(folder, "ready")):
        raise LookupError(f"{index} is not ready")
    return index * 10, os.environ.get("GREETING")


def inputs(folder, count):
    return [(str(folder), index) for index in range(count)]


def ended(job):
    return until(lambda: job.status in ("SUCCEEDED", "FAILED"))


@pytest.mark.parametrize(("count", "chunksize"), [(1, 1), (7, 1), (20, 4), (20, 30)])
def test_only_what_failed_runs_again(knot_of, tmp_path, count, chunksize):
    knot = knot_of(needs_a_file)
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
    # Nothing failed of it any more: nothing is submitted.
    assert again.retry_failed() is again


def large_with_a_file(folder, index):
    """More than a pack holds, once there is a file."""
    note(folder, index)
    if not os.path.exists(os.path.join(folder, "ready")):
        raise LookupError(f"{index} is not ready")
    return bytes([index]) * 9_000_000


@pytest.mark.parametrize("chunksize", [1, 3])
def test_large_results_of_a_retry_are_stored_beside_the_failures(knot_of, tmp_path, chunksize):
    future = knot_of(large_with_a_file).map(inputs(tmp_path, 3), starmap=True, chunksize=chunksize)
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    again = future.retry_failed()
    assert [(len(value), value[0]) for value in again.result(LONG)] == [(9_000_000, index) for index in range(3)]
    later = ck.BatchJob(again.job.job_id, cloud=future.job._cloud)
    assert [len(value) for value in later.result(LONG)] == [9_000_000] * 3
    assert calls(tmp_path) == dict.fromkeys(range(3), 2)


def dies_at_five(folder, index):
    note(folder, index)
    if index == 5:
        os._exit(7)
    return index


def test_an_element_that_ends_its_process_takes_its_neighbours_along_once(knot_of, tmp_path):
    future = knot_of(dies_at_five).map(inputs(tmp_path, 10), starmap=True, chunksize=4)
    with pytest.raises(
        ck.WorkerDiedError,
        match=r"^Element (4|5) .*exit code 7\. .*Another element of its chunk may be the cause\. .*chunksize=1",
    ):
        future.result(LONG)
    assert {index for index, each in enumerate(future) if each.exception()} <= {4, 5, 6, 7}
    ended(future.job)
    again = future.retry_failed()
    with pytest.raises(ck.WorkerDiedError, match=r"^Element 5 .*exit code 7\. "):
        again.result(LONG)
    assert [index for index, each in enumerate(again) if each.exception()] == [5]


def test_retries_can_be_repeated_and_the_last_failure_counts(knot_of, tmp_path):
    def fails_until(folder, index):
        note(folder, index)
        done = called(folder, index)
        if done <= index:
            raise LookupError(f"call {done}")
        return index

    knot = knot_of(fails_until)
    future = knot.map(inputs(tmp_path, 4), starmap=True)
    for number in (1, 2, 3):
        with pytest.raises(LookupError, match=f"call {number}"):
            future.result(LONG)
        assert [type(each.exception()) for each in future] == [type(None)] * number + [LookupError] * (4 - number)
        future = future.retry_failed()
    assert future.result(LONG) == [0, 1, 2, 3]
    assert calls(tmp_path) == {0: 1, 1: 2, 2: 3, 3: 4}


def test_a_later_session_retries_and_the_earlier_one_sees_it(cloud, knot_of, tmp_path):
    knot = knot_of(needs_a_file)
    future = knot.map(inputs(tmp_path, 5), starmap=True, chunksize=2)
    with pytest.raises(LookupError):
        future.result(LONG)
    ended(future.job)
    (tmp_path / "ready").touch()
    later = ck.Knot(name=knot.name, cloud=ck.LocalCloud(cloud.directory)).jobs[-1]
    assert later.job_id == future.job.job_id
    expected = [(index * 10, None) for index in range(5)]
    assert later.retry_failed().result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1}
    # The session that submitted the map looks anew, and so does a third one.
    assert future.job.result(LONG) == expected
    assert until(lambda: future.job.status == "SUCCEEDED")
    assert ck.BatchJob(later.job_ids[0], cloud=cloud).result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1}


def test_what_was_lost_with_its_host_is_retried_from_where_it_was(knot_of, switches, tmp_path):
    def slow(folder, index):
        import time

        note(folder, index)
        time.sleep(0.4)
        return index

    with switches.on(Faults(kills=(Kill("memory", when="stored", attempts=10),))):
        future = knot_of(slow).map(inputs(tmp_path, 6), starmap=True, chunksize=6)
        with pytest.raises(ck.OutOfMemoryError):
            future.result(LONG)
        kept = [each.result() for each in future if each.exception() is None]
    assert 1 <= len(kept) < 6
    ended(future.job)
    again = future.retry_failed(memory=9000, vcpus=2, timeout=90, retries=2)
    assert again.result(LONG) == list(range(6))
    assert all(number == 1 for index, number in calls(tmp_path).items() if index in kept)
    (job,) = again.job._view.describe_jobs()
    given = {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}
    assert given == {"MEMORY": "9000", "VCPU": "2"}
    assert job["timeout"] == {"attemptDurationSeconds": 90}


def test_independent_jobs_are_retried_as_well(knot_of, tmp_path):
    future = knot_of(needs_a_file).map(inputs(tmp_path, 4), starmap=True, job_type="independent")
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    assert future.retry_failed().result(LONG) == [(index * 10, None) for index in range(4)]
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2}


def wait_for(folder, index):
    import time

    note(folder, index)
    while not os.path.exists(os.path.join(folder, "ready")):
        time.sleep(0.05)
    return index


WRONG = [
    *[("memory", value) for value in (1, -1, "2 GB", 2.5)],
    *[("timeout", value) for value in (59, "long")],
    *[("vcpus", 0), ("retries", 0), ("retries", 11), ("progress", "yes")],
    *[("chunksize", value) for value in (0, -3, "auto", 1.5, True)],
]


def test_a_job_that_runs_is_not_retried_and_one_that_is_being_stopped_soon(knot_of, tmp_path):
    future = knot_of(wait_for).map(inputs(tmp_path, 2), starmap=True)
    until(lambda: len(calls(tmp_path)) == 2)
    with pytest.raises(ck.JobRunningError, match=r"is still running.*Nothing was submitted.*retry_failed"):
        future.retry_failed()
    for asked in (future, future.job):
        for name, value in WRONG:
            with pytest.raises(ck.CloudknotInputError, match=f"^{name}="):
                asked.retry_failed(**{name: value})
        with pytest.raises(TypeError, match=r"retry_failed\(\) got an unexpected keyword argument 'memroy'"):
            asked.retry_failed(memroy=2000)
    assert future.job._run.rounds.newest.number == 0
    assert future.cancel()
    (tmp_path / "ready").touch()
    again = future.retry_failed()
    assert again.result(LONG) == [0, 1]
    assert future.cancelled()


def test_two_sessions_do_not_retry_the_same_at_once(cloud, knot_of, tmp_path):
    future = knot_of(needs_a_file).map(inputs(tmp_path, 4), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    ended(future.job)
    (tmp_path / "ready").touch()
    job_id = future.job.job_id
    jobs = [ck.BatchJob(job_id, cloud=ck.LocalCloud(cloud.directory)) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(job.retry_failed) for job in jobs]
        refused = [each for each in asked if isinstance(each.exception(LONG), ck.JobRunningError)]
    assert len(refused) < len(asked)
    expected = [(index * 10, None) for index in range(4)]
    assert ck.BatchJob(job_id, cloud=cloud).result(LONG) == expected
    assert calls(tmp_path) == {0: 2, 1: 1, 2: 1, 3: 2}


def test_what_a_dead_session_has_claimed_is_free_after_a_while(cloud, knot_of, tmp_path):
    future = knot_of(needs_a_file).map(inputs(tmp_path, 1), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    job = future.job

    def claim(created):
        manifest = replace(job.manifest, round=1, todo=1, created=created.isoformat())
        cloud.storage.put(job.keys.round(1), manifest.to_json(session="a dead one").encode())

    claim(datetime.now(UTC))
    with pytest.raises(ck.JobRunningError, match="Another session is submitting"):
        future.retry_failed()
    claim(datetime.now(UTC) - 2 * CLAIM_TIME)
    assert future.retry_failed().result(LONG) == [(0, None)]
    assert job._run.rounds.newest.number == 2
    assert calls(tmp_path) == {0: 2}


def test_logs_are_of_all_rounds(knot_of, tmp_path):
    def shout(folder, index):
        print(f"call {index}")
        return needs_a_file(folder, index)

    future = knot_of(shout).map(inputs(tmp_path, 2), starmap=True)
    with pytest.raises(LookupError):
        future.result(LONG)
    (tmp_path / "ready").touch()
    future.retry_failed().result(LONG)
    until(lambda: list(future.job.logs(0)).count("call 0") == 2)
    assert list(future.job.logs(1)) == ["call 1"]


def greedy(folder, index):
    note(folder, index)
    return index


def memory_of(job):
    (described,) = job._view.describe_jobs()
    return next(item["value"] for item in described["container"]["resourceRequirements"] if item["type"] == "MEMORY")


def test_memory_grows_by_itself_after_running_out(knot_of, switches, tmp_path):
    knot = knot_of(greedy, memory=1000, memory_growth=2)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        future = knot.map(inputs(tmp_path, 1), starmap=True)
        until(lambda: future.job._run.rounds.newest.number >= 1)
    assert future.result(LONG) == [0]
    memory = [each.stored_choices["overrides"]["memory"] for each in future.job._run.rounds]
    assert memory[:2] == [None, 2000]
    # The switch may have been on for one round more.
    assert memory[2:] in ([], [4000])
    assert memory_of(future.job) == str(memory[-1])


def test_memory_stops_growing_and_only_what_ran_out_runs_again(knot_of, switches, tmp_path):
    knot = knot_of(greedy, memory=1000, memory_growth=3)
    with switches.on(Faults(kills=(Kill("memory", children=(0,), attempts=10),))):
        future = knot.map(inputs(tmp_path, 3), starmap=True)
        with pytest.raises(ck.OutOfMemoryError, match=r"8,000 MiB"):
            future.result(LONG)
    assert [each.stored_choices["overrides"]["memory"] for each in future.job._run.rounds] == [None, 3000, 8000]
    assert [list(each.elements) for each in future.job._run.rounds] == [[0, 1, 2], [0], [0]]
    assert calls(tmp_path) == {1: 1, 2: 1}


@pytest.mark.parametrize("chunksize", [None, 3])
def test_a_retry_that_is_killed_half_way_goes_on_where_its_results_end(knot_of, switches, tmp_path, chunksize):
    """Every third of 18 elements fails at first; in the retry, its first attempt dies when it has stored something."""

    def slow(folder, index):
        import time

        if os.path.exists(os.path.join(folder, "ready")):
            time.sleep(0.3)
        return needs_a_file(folder, index)[0]

    future = knot_of(slow).map(inputs(tmp_path, 18), starmap=True, chunksize=18)
    with pytest.raises(LookupError):
        future.result(LONG)
    ended(future.job)
    (tmp_path / "ready").touch()
    with switches.on(Faults(kills=(Kill("host", when="stored"),))):
        again = future.retry_failed(chunksize=chunksize)
        assert again.result(LONG) == [10 * index for index in range(18)]
        killed = switches.injected()["killed: host"]
    assert killed == (1 if chunksize is None else 2)
    made = calls(tmp_path)
    assert all(made[index] == 1 for index in range(18) if index % 3)
    # Of six elements, in each child that was killed only what ran when it died, or was not yet stored, ran again.
    retried = [made[index] - 1 for index in range(0, 18, 3)]
    assert set(retried) <= {1, 2}
    size = chunksize or 6
    for start in range(0, 6, size):
        child = retried[start : start + size]
        assert child[0] == 1
        assert sum(child) < 2 * size
    assert future.job._run.rounds.newest.number == 1


def test_memory_grows_in_a_later_session_from_where_the_dead_one_had_got(cloud, knot_of, switches, tmp_path):
    """The first session dies when it has submitted the round with twice the memory."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    (tmp_path / "script.py").write_text(DIES_WHILE_IT_GROWS)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        command = [sys.executable, "script.py"]
        died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG, cwd=tmp_path)
        assert died.returncode == -signal.SIGKILL, died.stderr
        job = ck.Knot(name="dies-growing", cloud=cloud).jobs[-1]
        with pytest.raises(
            ck.OutOfMemoryError, match=r"2,000 MiB.*only while .*with 4,000 MiB: future\.retry_failed\(\)"
        ):
            job.result(LONG)
        ended(job)
    again = ck.Knot(name="dies-growing", cloud=cloud).jobs[-1].retry_failed()
    assert again.result(LONG) == [5]
    assert [each.stored_choices["overrides"]["memory"] for each in again.job._run.rounds] == [None, 2000, 4000]


def test_memory_of_independent_jobs_grows_together(knot_of, switches, tmp_path):
    knot = knot_of(greedy, memory=1000, memory_growth=8)
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        future = knot.map(inputs(tmp_path, 3), starmap=True, job_type="independent")
        with pytest.raises(ck.OutOfMemoryError, match=r"8,000 MiB.*memory has grown to 8 times .*memory=16000\)"):
            future.result(LONG)
    assert [each.stored_choices["overrides"]["memory"] for each in future.job._run.rounds] == [None, 8000]
    assert len(future.job.job_ids) == 1


DIES_WHILE_IT_GROWS = """
import os, signal
import cloudknot as ck

def late(index):
    return index

cloud = ck.LocalCloud(os.environ["CLOUDKNOT_LOCAL_DIR"])
future = ck.Knot(name="dies-growing", func=late, memory=1000, memory_growth=2, cloud=cloud).map([5])

def die(params=None, model=None, **more):
    if model.name == "PutObject" and params["url_path"].endswith("submission.1.json"):
        os.kill(os.getpid(), signal.SIGKILL)

cloud.client("s3").meta.events.register("before-call", die)
future.result()
"""

SUBMIT = """
import sys
import cloudknot as ck

def late(folder, index):
    import os, time
    time.sleep(1)
    return index

knot = ck.Knot(name="grows", func=late, memory=1000, memory_growth=2, cloud="local")
print(knot.map([(sys.argv[1], 5)], starmap=True).job.job_id)
"""


def test_a_later_session_lets_the_memory_grow_when_it_is_asked_to_retry(cloud, switches, tmp_path):
    """The session that submitted the map has ended, and so lets nothing grow by itself."""
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", SUBMIT, str(tmp_path)]
    with switches.on(Faults(kills=(Kill("memory", attempts=10),))):
        submitted = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONG, check=True, cwd=tmp_path
        )
        later = ck.BatchJob(submitted.stdout.strip(), cloud=cloud)
        with pytest.raises(ck.OutOfMemoryError, match="1,000 MiB"):
            later.result(LONG)
        assert later._run.rounds.newest.number == 0
        ended(later)
    assert later.retry_failed().result(LONG) == [5]
    assert memory_of(later) == "2000"


def greedy_beside(folder, index):
    """The second element waits for a file."""
    while index and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.02)
    return index


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_job_that_somebody_ends_does_not_grow(cloud, knot_of, switches, tmp_path, elsewhere):
    knot = knot_of(greedy_beside, memory=1000, memory_growth=2)
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


def test_a_retry_that_is_asked_for_while_memory_grows_waits_for_that(cloud, switches, tmp_path):
    """Whoever asks may not hold what the collector needs."""
    own, gate = ck.LocalCloud(cloud.directory), threading.Event()

    def hold(parsed, **_):
        if threading.current_thread().name == "cloudknot-collector" and parsed["jobs"][0]["status"] == "FAILED":
            gate.wait(LONG)

    knot = ck.Knot(name="grows-meanwhile", func=greedy_beside, cloud=own, memory=1000, memory_growth=2)
    own.client("batch").meta.events.register("after-call.batch.DescribeJobs", hold)
    with switches.on(Faults(kills=(Kill("memory", attempts=1),))), ThreadPoolExecutor(1) as pool:
        future = knot.map(inputs(tmp_path, 1), starmap=True)
        until(lambda: future.job.status == "FAILED")
        asked = pool.submit(future.retry_failed)
        time.sleep(0.5)
        # Others are not held up meanwhile.
        assert future.job.status == "FAILED"
        switches.off()
        gate.set()
        assert asked.result(LONG).result(LONG) == [0]
    assert [each.stored_choices["overrides"]["memory"] for each in future.job._run.rounds] == [None, 2000]


def test_a_retry_that_could_not_be_stored_can_be_asked_for_again(cloud, knot_of, tmp_path):
    future = knot_of(needs_a_file).map(inputs(tmp_path, 1), starmap=True)
    assert isinstance(future.exception(LONG), LookupError)
    (tmp_path / "ready").touch()
    own = ck.LocalCloud(cloud.directory)
    job, refused = ck.BatchJob(future.job.job_id, cloud=own), []

    def refuse(params, model, **_):
        if "todo" in params["url_path"] and not refused:
            refused.append(model.name)
            raise KeyboardInterrupt

    own.client("s3").meta.events.register("before-call.s3.PutObject", refuse)
    with pytest.raises(KeyboardInterrupt):
        job.retry_failed()
    assert job.retry_failed().result(LONG) == [(0, None)]
    assert refused == ["PutObject"]


def test_a_forgotten_job_says_whether_it_failed(cloud, knot_of, switches, tmp_path):
    knot = knot_of(needs_a_file)
    failed, well = knot.map(inputs(tmp_path, 2), starmap=True), knot.map([(str(tmp_path), 1)], starmap=True)
    for future in (failed, well):
        ended(future.job)
        long_ago = replace(future.job.manifest, created="2026-01-01T00:00:00+00:00")
        cloud.storage.put(future.job.keys.manifest, long_ago.to_json().encode())
        switches.forget(future.job.job_id)
    later = [ck.BatchJob(future.job.job_id, cloud=cloud) for future in (failed, well)]
    assert [job.status for job in later] == ["FAILED", "SUCCEEDED"]
    # What is over and well need not be waited for; what is not must not be.
    assert knot.map([(str(tmp_path), 4)], starmap=True, depends_on=later[1]).result(LONG)[0][0] == 40
    with pytest.raises(
        ck.CloudknotInputError, match=r"ended without a result for some elements\. .*forgets .*retry_failed"
    ):
        knot.map([(str(tmp_path), 4)], starmap=True, depends_on=later)


def test_a_job_that_batch_has_not_taken_note_of_is_submitted_and_can_be_ended(cloud, knot_of, tmp_path):
    submitted = knot_of(greedy_beside).map(inputs(tmp_path, 2), starmap=True).job
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
    assert ended(job)


def test_a_job_that_batch_does_not_know_can_be_clobbered(cloud, knot_of, switches, tmp_path):
    future = knot_of(needs_a_file).map(inputs(tmp_path, 2), starmap=True)
    # Else its processes, of which Batch knows nothing any more, may store results after the clobbering.
    future.exception(LONG)
    job = until(lambda: future.job.status in ("SUCCEEDED", "FAILED") and future.job)
    switches.forget(job.job_id)
    job.clobber()
    assert list(cloud.storage.keys(job.keys.prefix)) == []


def test_a_retry_of_what_is_clobbered_meanwhile_is_ended_and_leaves_nothing(cloud, knot_of, tmp_path):
    future = knot_of(greedy_beside_a_failure).map(inputs(tmp_path, 2), starmap=True)
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


def greedy_beside_a_failure(folder, index):
    """Both fail at first; afterwards they wait for a file that never comes."""
    note(folder, index)
    while called(folder, index) > 1:
        time.sleep(0.02)
    raise LookupError(index)
