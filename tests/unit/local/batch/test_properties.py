"""The engine of the embedded Batch keeps its invariants under any order of events that hypothesis draws."""

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.local.batch import records
from cloudknot.local.batch.records import Dependency, ExitRule, RetryStrategy, Status
from tests.unit.local.batch.test_engine import Batch

HOST = "host"
"""The end of an attempt on a lost host. All other ends are exit codes."""
RULES = (ExitRule("RETRY", on_status_reason="Host EC2*"), ExitRule("EXIT", on_reason="*", on_exit_code="*"))

# At least as many ends as any strategy below has attempts.
attempt_ends = st.lists(st.sampled_from([0, 1, 137, HOST]), min_size=10, max_size=10)


@st.composite
def submissions(draw):
    """Return the array size of a job (or None), its retry strategy, and the ends of the attempts of each child."""
    size = draw(st.none() | st.integers(2, 6))
    strategy = RetryStrategy(draw(st.integers(1, 5)), draw(st.sampled_from([(), RULES])))
    return size, strategy, [draw(attempt_ends) for _ in range(size or 1)]


def expected_attempts(strategy, ends):
    """Return the number of attempts of a job, and whether it succeeds (AWS Batch API reference, "RetryStrategy")."""
    for number, end in enumerate(ends, start=1):
        if end == 0:
            return number, True
        if number == strategy.attempts or (strategy.rules and end != HOST):
            return number, False
    raise AssertionError("there are more ends than attempts")


class Simulation:
    """Jobs that run to their ends. Hypothesis draws each event among all possible ones."""

    def __init__(self, draw, vcpus):
        self.batch, self.draw, self.vcpus = Batch(vcpus), draw, vcpus
        self.ends, self.jobs, self.running = {}, [], set()

    def submit(self, size, strategy, ends, **more):
        job = self.batch.submit(array_size=size, retry=strategy, **more)
        for child, child_ends in zip(job.children or [job], ends, strict=True):
            self.ends[child.id] = child_ends
        self.jobs.append(job)
        return job

    def finish(self):
        while self.batch.tasks:
            self.check()
            self.step(self.draw(st.sampled_from(sorted(self.batch.tasks)), label="job of the next event"))
        self.check()

    def step(self, job_id):
        job, task = self.batch.engine.jobs[job_id], self.batch.tasks[job_id]
        if task.id not in self.running and self.draw(st.booleans(), label="task starts before it ends"):
            self.running.add(task.id)
            self.batch.start(job)
            return
        end = self.ends[job_id][len(job.attempts) - 1]
        if end == HOST:
            self.batch.exit(job, None, status_reason=records.HOST_LOST)
        else:
            self.batch.exit(job, end)

    def check(self):
        active = 0
        for job in self.jobs:
            leaves = job.children or [job]
            active += sum(leaf.status.active for leaf in leaves)
            assert all(len(leaf.attempts) <= leaf.spec.retry.attempts for leaf in leaves)
            if job.children:
                counted = {status: sum(leaf.status == status for leaf in leaves) for status in Status}
                assert {status: job.summary[status] for status in Status} == counted
                assert job.status.ended == all(leaf.status.ended for leaf in leaves)
        assert active == len(self.batch.tasks) <= self.vcpus


@given(st.data(), st.integers(1, 4), st.lists(submissions(), min_size=1, max_size=3))
def test_engine_makes_as_many_attempts_as_each_retry_strategy_demands(data, vcpus, submitted):
    simulation = Simulation(data.draw, vcpus)
    for submission in submitted:
        simulation.submit(*submission)
    simulation.finish()
    for job, (_, strategy, ends) in zip(simulation.jobs, submitted, strict=True):
        leaves = job.children or [job]
        expected = [expected_attempts(strategy, child_ends) for child_ends in ends]
        assert [(len(leaf.attempts), leaf.status == Status.SUCCEEDED) for leaf in leaves] == expected
        assert (job.status == Status.SUCCEEDED) == all(succeeded for _, succeeded in expected)


@given(st.data(), st.integers(1, 4), st.integers(2, 6), st.sampled_from(["", "N_TO_N", "SEQUENTIAL"]))
def test_dependents_of_failed_jobs_never_start_and_all_other_jobs_end(data, vcpus, size, kind):
    simulation = Simulation(data.draw, vcpus)
    once = RetryStrategy(1)
    first = simulation.submit(size, once, [data.draw(attempt_ends) for _ in range(size)])
    depends = Dependency(None if kind == "SEQUENTIAL" else first.id, kind)
    second = simulation.submit(size, once, [data.draw(attempt_ends) for _ in range(size)], depends_on=(depends,))
    simulation.finish()
    for index, child in enumerate(second.children):
        if kind == "":
            needed = first
        elif kind == "N_TO_N":
            needed = first.children[index]
        else:
            needed = second.children[index - 1] if index else None
        if needed is not None and needed.status == Status.FAILED:
            assert (child.status, child.reason, child.attempts) == (Status.FAILED, records.DEPENDENCY_FAILED, [])
        else:
            assert len(child.attempts) == 1
    assert first.status.ended
    assert second.status.ended


@given(st.data(), submissions(), st.integers(0, 8), st.booleans())
def test_terminated_jobs_and_cancelled_waiting_jobs_get_no_new_attempt(data, submission, steps, terminated):
    simulation = Simulation(data.draw, 2)
    job = simulation.submit(*submission)
    for _ in range(steps):
        if simulation.batch.tasks:
            simulation.step(data.draw(st.sampled_from(sorted(simulation.batch.tasks))))
    before = {leaf.id: len(leaf.attempts) for leaf in job.children or [job]}
    (simulation.batch.terminate if terminated else simulation.batch.cancel)(job)
    simulation.finish()
    assert job.status.ended
    for leaf in job.children or [job]:
        assert leaf.status.ended
        # A cancelled job that has started keeps running, and may get more attempts. A terminated one does not.
        assert len(leaf.attempts) == before[leaf.id] or (not terminated and before[leaf.id])


@given(st.data(), submissions(), st.integers(0, 12))
def test_forgotten_job_does_not_affect_other_jobs(data, submission, steps):
    simulation = Simulation(data.draw, 2)
    forgotten = simulation.batch.submit(array_size=submission[0], retry=submission[1])
    kept = simulation.submit(*submission)
    for _ in range(steps):
        kept_tasks = sorted(simulation.batch.tasks.keys() & simulation.ends.keys())
        if kept_tasks:
            simulation.step(data.draw(st.sampled_from(kept_tasks)))
    simulation.batch.engine.forget(forgotten)
    # The forgotten job's tasks keep running, and their ends still arrive.
    while not kept.status.ended:
        job_id = sorted(simulation.batch.tasks)[0]
        if job_id in simulation.ends:
            simulation.step(job_id)
        else:
            simulation.batch.exit(next(job for job in (forgotten, *forgotten.children) if job.id == job_id))
    assert forgotten.id not in simulation.batch.engine.jobs
