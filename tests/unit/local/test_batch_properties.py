"""The Batch engine under any order of events: what always holds, and how often each job is tried."""

from hypothesis import given
from hypothesis import strategies as st

from cloudknot.local.batch import records
from cloudknot.local.batch.records import Dependency, ExitRule, RetryStrategy, Status
from tests.unit.local.test_batch_engine import Cloud

HOST = "host"
"""An ending: the host was lost. All others are exit codes."""
RULES = (ExitRule("RETRY", on_status_reason="Host EC2*"), ExitRule("EXIT", on_reason="*", on_exit_code="*"))

endings = st.lists(st.sampled_from([0, 1, 137, HOST]), min_size=10, max_size=10)


@st.composite
def submissions(draw):
    """A job: its array's size if it is one, how often it is tried, and how each attempt of each child ends."""
    size = draw(st.none() | st.integers(2, 6))
    strategy = RetryStrategy(draw(st.integers(1, 5)), draw(st.sampled_from([(), RULES])))
    return size, strategy, [draw(endings) for _ in range(size or 1)]


def attempts_of(strategy, ends):
    """How many attempts a job makes, and whether it succeeds: the AWS Batch API reference, "RetryStrategy"."""
    for number, end in enumerate(ends, start=1):
        if end == 0:
            return number, True
        if number == strategy.attempts or (strategy.rules and end != HOST):
            return number, False
    raise AssertionError("there are more endings than attempts")


class Run:
    """Jobs that are run to their end, the next event drawn among all that may come."""

    def __init__(self, draw, vcpus):
        self.cloud, self.draw, self.vcpus = Cloud(vcpus), draw, vcpus
        self.ends, self.jobs, self.running = {}, [], set()

    def submit(self, size, strategy, ends, **more):
        job = self.cloud.submit(array_size=size, retry=strategy, **more)
        for each, its in zip(job.children or [job], ends, strict=True):
            self.ends[each.id] = its
        self.jobs.append(job)
        return job

    def finish(self):
        while self.cloud.tasks:
            self.check()
            self.step(self.draw(st.sampled_from(sorted(self.cloud.tasks)), label="whose turn it is"))
        self.check()

    def step(self, job_id):
        job, task = self.cloud.engine.jobs[job_id], self.cloud.tasks[job_id]
        if task.id not in self.running and self.draw(st.booleans(), label="it starts before it ends"):
            self.running.add(task.id)
            self.cloud.start(job)
            return
        end = self.ends[job_id][len(job.attempts) - 1]
        if end == HOST:
            self.cloud.exit(job, None, status_reason=records.HOST_LOST)
        else:
            self.cloud.exit(job, end)

    def check(self):
        active = 0
        for job in self.jobs:
            leaves = job.children or [job]
            active += sum(each.status.active for each in leaves)
            assert all(len(each.attempts) <= each.spec.retry.attempts for each in leaves)
            if job.children:
                counted = {status: sum(each.status == status for each in leaves) for status in Status}
                assert {status: job.summary[status] for status in Status} == counted
                assert job.status.ended == all(each.status.ended for each in leaves)
        assert active == len(self.cloud.tasks) <= self.vcpus


@given(st.data(), st.integers(1, 4), st.lists(submissions(), min_size=1, max_size=3))
def test_every_job_is_tried_as_often_as_its_strategy_says(data, vcpus, submitted):
    run = Run(data.draw, vcpus)
    for submission in submitted:
        run.submit(*submission)
    run.finish()
    for job, (_, strategy, ends) in zip(run.jobs, submitted, strict=True):
        leaves = job.children or [job]
        expected = [attempts_of(strategy, its) for its in ends]
        assert [(len(each.attempts), each.status == Status.SUCCEEDED) for each in leaves] == expected
        assert (job.status == Status.SUCCEEDED) == all(succeeded for _, succeeded in expected)


@given(st.data(), st.integers(1, 4), st.integers(2, 6), st.sampled_from(["", "N_TO_N", "SEQUENTIAL"]))
def test_what_depends_on_a_failure_never_starts_and_all_else_ends(data, vcpus, size, kind):
    run = Run(data.draw, vcpus)
    once = RetryStrategy(1)
    first = run.submit(size, once, [data.draw(endings) for _ in range(size)])
    depends = Dependency(None if kind == "SEQUENTIAL" else first.id, kind)
    second = run.submit(size, once, [data.draw(endings) for _ in range(size)], depends_on=(depends,))
    run.finish()
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
def test_what_is_ended_stays_ended_and_is_not_tried_again(data, submission, steps, terminated):
    run = Run(data.draw, 2)
    job = run.submit(*submission)
    for _ in range(steps):
        if run.cloud.tasks:
            run.step(data.draw(st.sampled_from(sorted(run.cloud.tasks))))
    before = {each.id: len(each.attempts) for each in job.children or [job]}
    (run.cloud.terminate if terminated else run.cloud.cancel)(job)
    run.finish()
    assert job.status.ended
    for each in job.children or [job]:
        assert each.status.ended
        # What runs goes on when it is cancelled, and may be tried again; what is terminated is not.
        assert len(each.attempts) == before[each.id] or (not terminated and before[each.id])


@given(st.data(), submissions(), st.integers(0, 12))
def test_a_forgotten_job_does_no_harm_to_others(data, submission, steps):
    run = Run(data.draw, 2)
    forgotten = run.cloud.submit(array_size=submission[0], retry=submission[1])
    kept = run.submit(*submission)
    for _ in range(steps):
        mine = sorted(run.cloud.tasks.keys() & run.ends.keys())
        if mine:
            run.step(data.draw(st.sampled_from(mine)))
    run.cloud.engine.forget(forgotten)
    # Its tasks run on, and end.
    while not kept.status.ended:
        job_id = sorted(run.cloud.tasks)[0]
        if job_id in run.ends:
            run.step(job_id)
        else:
            run.cloud.exit(next(each for each in (forgotten, *forgotten.children) if each.id == job_id))
    assert forgotten.id not in run.cloud.engine.jobs
