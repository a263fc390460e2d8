"""Jobs go on after the end of a server process at any moment, with a history that AWS Batch could have made."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudknot.local.batch import job_store, records
from cloudknot.local.batch.attempts import is_retried
from cloudknot.local.batch.engine import Engine
from cloudknot.local.batch.job_store import RETENTION, JobStore
from cloudknot.local.batch.records import Dependency, RetryStrategy, Status, TimeLimit
from cloudknot.local.directory.database import Database
from tests.unit.local.batch.test_engine import QUEUE, Batch, spec
from tests.unit.local.batch.test_properties import RULES, Simulation, attempt_ends, submissions

LOST = "Host EC2 (instance i-0123456789abcdef0) terminated."
THREE = RetryStrategy(3, RULES)


class StoredBatch(Batch):
    """An engine with stored jobs, which `kill` ends and replaces. ``begun`` counts the starts of tasks by job."""

    def __init__(self, store, vcpus=2):
        super().__init__(vcpus)
        self.store, self.vcpus, self.begun = store, vcpus, Counter()

    def submit(self, **fields):
        job, actions = self.engine.submit(spec(**fields), self.now)
        self.store.add(job, self.engine.changed.values())
        self.engine.changed.clear()
        self.take(actions)
        return job

    def save(self):
        self.store.write(self.engine.changed.values())
        self.engine.changed.clear()

    def take(self, actions):
        if actions:
            self.save()
        before = dict(self.tasks)
        super().take(actions)
        for job_id, task in self.tasks.items():
            if before.get(job_id) is not task:
                self.begun[job_id] += 1
                self.check_needed(job_id)

    def check_needed(self, job_id):
        leaf = self.engine.jobs[job_id]
        for dependency in leaf.spec.depends_on:
            if dependency.type == "":
                assert self.job(dependency.job_id).status == Status.SUCCEEDED
            elif dependency.type == "N_TO_N":
                assert self.job(dependency.job_id).children[leaf.index].status == Status.SUCCEEDED
            elif leaf.index:
                assert leaf.parent.children[leaf.index - 1].status == Status.SUCCEEDED

    def exit(self, job, exit_code=0, **details):
        super().exit(job, exit_code, **details)
        self.save()

    def cancel(self, job, reason="because"):
        super().cancel(job, reason)
        self.save()

    def terminate(self, job, reason="because"):
        super().terminate(job, reason)
        self.save()

    def job(self, job_id):
        """Return the present object of a job or child job."""
        if job_id in self.engine.jobs:
            return self.engine.jobs[job_id]
        found = self.store.find(job_id)
        return found.children[int(job_id.partition(":")[2])] if ":" in job_id else found

    def kill(self):
        """End the engine with all its tasks, and restore it from the store."""
        self.tasks.clear()
        self.engine = Engine(self.vcpus, self.engine._new_id, self.store.next_number())
        jobs = self.store.live()
        for dependency in (dependency for job in jobs for dependency in job.spec.depends_on):
            needed = self.store.find(dependency.job_id or "")
            if needed is not None and needed.status.ended:
                self.engine.adopt(needed)
        self.take(self.engine.restore(jobs, LOST, self.now))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return JobStore(Database(tmp_path_factory.mktemp("jobs") / "jobs.sqlite", job_store.SCHEMA, is_synced=False))


@pytest.fixture
def batch(store):
    return empty(store)


def empty(store, vcpus=2):
    with store._database.transaction() as connection:
        for table in ("batch_jobs", "batch_children"):
            connection.execute(f"DELETE FROM {table}")
    return StoredBatch(store, vcpus)


def leaves_of(job):
    return job.children or [job]


def check_history(batch, job):
    """Check that Batch could have made the attempts of an ended job, and that each start of a task is one of them."""
    for leaf in leaves_of(job):
        assert leaf.status.ended
        assert len(leaf.attempts) == batch.begun[leaf.id]
        assert len({attempt.task_id for attempt in leaf.attempts}) == len(leaf.attempts)
        for number, attempt in enumerate(leaf.attempts, start=1):
            is_last = number == len(leaf.attempts)
            if attempt.exit_code == 0 and leaf.stop_reason is None:
                assert is_last
                assert leaf.status == Status.SUCCEEDED
            elif leaf.stop_reason is None:
                assert is_retried(leaf.spec.retry, number, attempt) != is_last or leaf.cancelled
    if job.children:
        failed = any(leaf.status == Status.FAILED for leaf in job.children)
        assert job.status == (Status.FAILED if failed else Status.SUCCEEDED)
        assert job.summary[Status.FAILED] + job.summary[Status.SUCCEEDED] == len(job.children)


class KilledSimulation(Simulation):
    """Jobs of a `StoredBatch`, which is killed whenever hypothesis decides."""

    def __init__(self, draw, batch):
        super().__init__(draw, batch.vcpus)
        self.batch = batch

    def finish(self):
        while self.batch.tasks:
            self.check()
            if self.draw(st.integers(0, 5), label="kill at 0") == 0:
                self.kill()
            else:
                self.step(self.draw(st.sampled_from(sorted(self.batch.tasks)), label="job of the next event"))
        self.check()

    def kill(self):
        leaves = [leaf for job in self.jobs for leaf in leaves_of(job)]
        ended = {leaf.id: (leaf.status, leaf.reason, leaf.stopped) for leaf in leaves if leaf.status.ended}
        self.running.clear()
        self.batch.kill()
        self.jobs = [self.batch.job(job.id) for job in self.jobs]
        for job_id, seen in ended.items():
            leaf = self.batch.job(job_id)
            assert (leaf.status, leaf.reason, leaf.stopped) == seen


quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@quick
@given(st.data(), st.integers(1, 4), st.lists(submissions(), min_size=1, max_size=3))
def test_jobs_killed_at_any_moment_have_a_history_of_batch(store, data, vcpus, submitted):
    simulation = KilledSimulation(data.draw, empty(store, vcpus))
    for submission in submitted:
        simulation.submit(*submission)
    simulation.finish()
    for job in simulation.jobs:
        check_history(simulation.batch, job)


@quick
@given(st.data(), st.integers(1, 4), st.integers(2, 5), st.sampled_from(["", "N_TO_N", "SEQUENTIAL"]))
def test_dependents_killed_at_any_moment_start_after_success_only_and_all_end(store, data, vcpus, size, kind):
    simulation = KilledSimulation(data.draw, empty(store, vcpus))
    first = simulation.submit(size, THREE, [data.draw(attempt_ends) for _ in range(size)])
    depends = Dependency(None if kind == "SEQUENTIAL" else first.id, kind)
    simulation.submit(size, THREE, [data.draw(attempt_ends) for _ in range(size)], depends_on=(depends,))
    simulation.finish()
    for job in simulation.jobs:
        assert job.status.ended
        for leaf in job.children:
            assert len(leaf.attempts) == simulation.batch.begun[leaf.id]


@quick
@given(st.data(), submissions(), st.integers(0, 8), st.booleans())
def test_terminated_and_cancelled_jobs_stay_so_after_a_kill(store, data, submission, steps, terminated):
    simulation = KilledSimulation(data.draw, empty(store))
    job = simulation.submit(*submission)
    for _ in range(steps):
        if simulation.batch.tasks:
            simulation.step(data.draw(st.sampled_from(sorted(simulation.batch.tasks))))
    (simulation.batch.terminate if terminated else simulation.batch.cancel)(job)
    before = {leaf.id: len(leaf.attempts) for leaf in leaves_of(job)}
    simulation.kill()
    simulation.finish()
    (job,) = simulation.jobs
    assert job.status.ended
    for leaf in leaves_of(job):
        assert leaf.status.ended
        assert len(leaf.attempts) == before[leaf.id] or (not terminated and before[leaf.id])


def test_running_job_is_lost_with_its_host_and_retried(batch):
    job = batch.submit(retry=THREE)
    batch.start(job)
    batch.kill()
    job = batch.job(job.id)
    assert (job.status, len(job.attempts)) == (Status.STARTING, 2)
    assert (job.attempts[0].exit_code, job.attempts[0].status_reason) == (None, LOST)
    batch.run(job)
    assert batch.job(job.id).status == Status.SUCCEEDED


def test_running_job_without_retries_fails_with_its_host(batch):
    job = batch.submit()
    batch.kill()
    job = batch.job(job.id)
    assert (job.status, job.reason, batch.tasks) == (Status.FAILED, LOST, {})


def test_waiting_children_have_no_rows_and_go_on(batch):
    array = batch.submit(array_size=1000)
    assert len(store_rows(batch)) == 2
    batch.run(array.children[0])
    batch.kill()
    array = batch.job(array.id)
    counts = {str(status): count for status, count in array.summary.items() if count}
    # One child was lost without retries, and two others have started.
    assert counts == {"SUCCEEDED": 1, "FAILED": 2, "STARTING": 2, "RUNNABLE": 995}


def store_rows(batch):
    return batch.store._database.rows("SELECT * FROM batch_children")


def test_job_keeps_its_specification_and_place(batch):
    limits = (TimeLimit("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 600.0),)
    queue = records.Queue("q", QUEUE.arn, 3, "ce", float("inf"), limits)
    fields = {"command": ("a", "b"), "environment": {"A": "é"}, "tags": {"k": "v"}, "timeout": 60, "queue": queue}
    job = batch.submit(retry=THREE, array_size=3, **fields)
    stored = batch.store.find(f"{job.id}:2")
    assert (stored.id, stored.spec, stored.order, stored.created) == (job.id, job.spec, job.order, job.created)
    assert [child.order for child in stored.children] == [child.order for child in job.children]
    later = batch.submit()
    batch.kill()
    assert batch.submit().order == later.order + 1


def test_stuck_job_stays_stuck_after_a_kill_with_its_reason(batch):
    job = batch.submit(vcpus=32)
    batch.kill()
    job = batch.job(job.id)
    assert (job.status, job.reason) == (Status.RUNNABLE, records.TOO_MANY_VCPUS)


def test_store_forgets_ended_jobs_after_retention_and_keeps_live_ones(batch):
    old, live = batch.submit(array_size=2), batch.submit()
    for child in old.children:
        batch.run(child)
    now = int(batch.now * 1000)
    batch.store.delete_old(now + RETENTION)
    assert batch.store.find(old.id) is not None
    batch.store.delete_old(now + RETENTION + 1)
    assert batch.store.find(old.id) is None
    assert batch.store.find(live.id) is not None
    assert not any(row[0] == old.order for row in store_rows(batch))


def test_ended_jobs_are_counted_by_their_children(batch):
    array, failed = batch.submit(array_size=2), batch.submit()
    for job in array.children:
        batch.run(job)
    batch.run(failed, 1)
    batch.submit()
    assert batch.store.ended() == {Status.SUCCEEDED: 2, Status.FAILED: 1}
