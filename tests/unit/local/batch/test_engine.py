"""The engine of the embedded Batch handles one event at a time. Clock, ids and runner are fakes. No I/O."""

import itertools
from dataclasses import replace

import pytest

from cloudknot.deploy.job_definition import RETRY_RULES, RULES_FOR_SEVERAL, _filled
from cloudknot.local.batch import engine, job_api, records
from cloudknot.local.batch.attempts import is_retried
from cloudknot.local.batch.engine import STOP_GRACE, Engine
from cloudknot.local.batch.records import (
    Attempt,
    Dependency,
    Exited,
    ExitRule,
    JobSpec,
    Queue,
    RetryStrategy,
    Start,
    Started,
    Status,
    Stop,
    TimeLimit,
)
from cloudknot.local.batch.submission import _retry_strategy
from cloudknot.worker.wire.container import KILLED, TRY_AGAIN

QUEUE = Queue("q", "arn:aws:batch:us-east-1:1:job-queue/q", 1, "ce", 16)
DEFINITION = {"image": "r/i:t", "definition": "arn:aws:batch:us-east-1:1:job-definition/d:1", "definition_name": "d"}


def spec(**fields):
    return JobSpec(**{"name": "job", "queue": QUEUE, **DEFINITION, **fields})


class Batch:
    """An engine with a fake clock and a fake runner. ``tasks`` are the running tasks, by the ids of their jobs."""

    def __init__(self, vcpus=2):
        ids = itertools.count()
        self.engine = Engine(vcpus, lambda: f"id{next(ids)}")
        self.now = 1000.0
        self.tasks = {}
        self.stops = []

    def submit(self, **fields):
        job, actions = self.engine.submit(spec(**fields), self.now)
        self.take(actions)
        return job

    def take(self, actions):
        for action in actions:
            if isinstance(action, Start):
                self.tasks[action.task.environment["AWS_BATCH_JOB_ID"]] = action.task
            else:
                self.stops.append(action)

    def start(self, job):
        self.take(self.engine.handle(Started(self.tasks[job.id].id), self.now))

    def exit(self, job, exit_code=0, **details):
        task = self.tasks.pop(job.id)
        self.take(self.engine.handle(Exited(task.id, exit_code, **details), self.now))

    def run(self, job, exit_code=0, **details):
        self.start(job)
        self.exit(job, exit_code, **details)

    def cancel(self, job, reason="because"):
        self.take(self.engine.cancel(job, reason, self.now))

    def terminate(self, job, reason="because"):
        self.take(self.engine.terminate(job, reason, self.now))

    def wait(self, seconds):
        self.now += seconds
        self.take(self.engine.tick(self.now))


@pytest.fixture
def batch():
    return Batch()


def statuses(jobs):
    return [str(job.status) for job in jobs]


def test_job_passes_through_starting_and_running_to_succeeded(batch):
    job = batch.submit()
    assert job.status == Status.STARTING
    batch.start(job)
    assert (job.status, job.started) == (Status.RUNNING, 1_000_000)
    batch.now += 1.5
    batch.exit(job)
    assert (job.status, job.reason, job.stopped) == (Status.SUCCEEDED, records.EXITED, 1_001_500)


def test_failed_job_reports_exit_code_reason_and_log_stream_of_its_attempt(batch):
    job = batch.submit()
    stream = batch.tasks[job.id].log_stream
    batch.run(job, 3, reason="OutOfMemoryError: Container killed due to memory usage")
    description = job_api.detail(job)
    assert (description["status"], description["statusReason"]) == (Status.FAILED, records.EXITED)
    assert description["container"]["exitCode"] == 3
    assert description["attempts"][0]["container"] == {
        "exitCode": 3,
        "reason": "OutOfMemoryError: Container killed due to memory usage",
        "logStreamName": stream,
        "networkInterfaces": [],
    }
    assert stream.startswith("d/default/")


def test_job_and_child_job_receive_batch_variables(batch):
    plain = batch.submit(environment={"A": "1"})
    assert batch.tasks[plain.id].environment == {
        "A": "1",
        "AWS_BATCH_JOB_ID": plain.id,
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_CE_NAME": "ce",
        "AWS_BATCH_JQ_NAME": "q",
    }
    array = batch.submit(array_size=2)
    child = batch.tasks[f"{array.id}:0"].environment
    assert (child["AWS_BATCH_JOB_ARRAY_INDEX"], child["AWS_BATCH_JOB_ARRAY_SIZE"]) == ("0", "2")


def test_array_job_is_pending_until_its_last_child_ends(batch):
    array = batch.submit(array_size=3)
    assert (array.status, array.summary[Status.STARTING], array.summary[Status.RUNNABLE]) == (Status.PENDING, 2, 1)
    batch.run(array.children[0], 1)
    batch.run(array.children[1])
    assert array.status == Status.PENDING
    batch.run(array.children[2])
    assert (array.status, array.reason) == (Status.FAILED, records.CHILD_FAILED)
    assert (array.summary[Status.SUCCEEDED], array.summary[Status.FAILED]) == (2, 1)


def test_array_job_succeeds_when_all_its_children_succeed(batch):
    array = batch.submit(array_size=2)
    for child in array.children:
        batch.run(child)
    assert (array.status, array.reason) == (Status.SUCCEEDED, None)


def test_engine_starts_jobs_in_submission_order_within_its_vcpus(batch):
    jobs = [batch.submit() for _ in range(4)]
    assert statuses(jobs) == ["STARTING", "STARTING", "RUNNABLE", "RUNNABLE"]
    batch.run(jobs[1])
    assert statuses(jobs) == ["STARTING", "SUCCEEDED", "STARTING", "RUNNABLE"]


def test_job_larger_than_machine_runs_alone_and_is_not_overtaken(batch):
    small, large, other = batch.submit(), batch.submit(vcpus=8), batch.submit()
    assert statuses([small, large, other]) == ["STARTING", "RUNNABLE", "RUNNABLE"]
    batch.run(small)
    assert statuses([large, other]) == ["STARTING", "RUNNABLE"]
    batch.run(large)
    assert other.status == Status.STARTING


def test_job_larger_than_compute_environment_stays_runnable_and_blocks_no_other(batch):
    misfit, job = batch.submit(vcpus=17), batch.submit()
    assert misfit.status == Status.RUNNABLE
    assert misfit.reason.startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")
    assert job.status == Status.STARTING
    batch.cancel(misfit)
    assert (misfit.status, misfit.reason) == (Status.FAILED, "because")


def queue_with_limit(seconds=600.0, reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"):
    """Return a queue that cancels its first job after some time. Its other limit never applies here."""
    return replace(QUEUE, time_limits=(TimeLimit("CAPACITY:OTHER", 1.0), TimeLimit(reason, seconds)))


CANCELED = "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"


def test_time_limit_cancels_job_that_heads_its_queue_for_too_long(batch):
    first, second = (batch.submit(queue=queue_with_limit(), vcpus=17) for _ in range(2))
    starting = batch.submit(queue=queue_with_limit(), vcpus=2)
    waiting = batch.submit(queue=queue_with_limit(), vcpus=2)
    assert batch.engine.next_deadline() == batch.now + 600
    batch.wait(599)
    assert statuses([first, second]) == ["RUNNABLE", "RUNNABLE"]
    batch.wait(1)
    assert (first.status, first.reason, first.cancelled) == (Status.FAILED, CANCELED, True)
    # The second job becomes the head of the queue only now, so its time begins now.
    assert second.status == Status.RUNNABLE
    assert batch.engine.next_deadline() == batch.now + 600
    batch.wait(600)
    assert (second.status, second.reason) == (Status.FAILED, CANCELED)
    assert batch.engine.next_deadline() is None
    # The limits concern jobs that cannot start. A job that waits for free vCPUs stays.
    assert statuses([starting, waiting]) == ["STARTING", "RUNNABLE"]


def test_time_limit_cancels_children_one_by_one(batch):
    parent = batch.submit(queue=queue_with_limit(), vcpus=17, array_size=2)
    dependent = batch.submit(queue=queue_with_limit(), depends_on=(Dependency(parent.id),))
    batch.wait(600)
    assert statuses(parent.children) == ["FAILED", "RUNNABLE"]
    batch.wait(600)
    assert (parent.status, parent.reason) == (Status.FAILED, records.CHILD_FAILED)
    assert (dependent.status, dependent.reason) == (Status.FAILED, records.DEPENDENCY_FAILED)


def test_time_limit_of_next_job_begins_when_head_of_queue_is_cancelled(batch):
    first, second = (batch.submit(queue=queue_with_limit(), vcpus=17) for _ in range(2))
    batch.wait(300)
    batch.cancel(first)
    batch.wait(599)
    assert second.status == Status.RUNNABLE
    batch.wait(1)
    assert second.reason == CANCELED


def test_time_limit_for_another_reason_cancels_no_job(batch):
    misfit = batch.submit(queue=queue_with_limit(reason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"), vcpus=17)
    assert batch.engine.next_deadline() is None
    batch.wait(10**6)
    assert misfit.status == Status.RUNNABLE


def test_full_compute_environment_does_not_delay_another_queue():
    batch = Batch(vcpus=10)
    narrow = Queue("narrow", "arn:aws:batch:us-east-1:1:job-queue/narrow", 5, "narrow", 1)
    first, second, other = batch.submit(queue=narrow), batch.submit(queue=narrow), batch.submit()
    assert statuses([first, second, other]) == ["STARTING", "RUNNABLE", "STARTING"]


def test_engine_starts_jobs_of_queue_with_higher_priority_first(batch):
    urgent = Queue("urgent", "arn:aws:batch:us-east-1:1:job-queue/urgent", 9, "ce", 16)
    running, normal, favoured = batch.submit(vcpus=2), batch.submit(vcpus=2), batch.submit(vcpus=2, queue=urgent)
    batch.run(running)
    assert statuses([normal, favoured]) == ["RUNNABLE", "STARTING"]


def test_engine_starts_new_attempts_until_none_are_left(batch):
    job = batch.submit(retry=RetryStrategy(2))
    batch.run(job, 1)
    assert (job.status, batch.tasks[job.id].environment["AWS_BATCH_JOB_ATTEMPT"]) == (Status.STARTING, "2")
    batch.run(job, 7)
    assert (job.status, [attempt.exit_code for attempt in job.attempts]) == (Status.FAILED, [1, 7])
    assert len({attempt.log_stream for attempt in job.attempts}) == 2


@pytest.mark.parametrize(
    ("rules", "outcome", "status"),
    [
        ((), {"exit_code": 1}, Status.STARTING),
        ((ExitRule("EXIT", on_exit_code="1"),), {"exit_code": 1}, Status.FAILED),
        ((ExitRule("EXIT", on_exit_code="1"),), {"exit_code": 2}, Status.STARTING),
        ((ExitRule("EXIT", on_exit_code="13*"),), {"exit_code": 137}, Status.FAILED),
        ((ExitRule("EXIT", on_exit_code="13*"),), {"exit_code": None}, Status.STARTING),
        ((ExitRule("EXIT", on_exit_code="*"),), {"exit_code": None}, Status.FAILED),
        (
            (ExitRule("RETRY", on_status_reason="Host EC2*"), ExitRule("EXIT", on_reason="*")),
            {"exit_code": None, "status_reason": "Host EC2 (instance i-1) terminated."},
            Status.STARTING,
        ),
        (
            (ExitRule("RETRY", on_status_reason="Host EC2*"), ExitRule("EXIT", on_reason="*")),
            {"exit_code": 1},
            Status.FAILED,
        ),
        (
            (ExitRule("EXIT", on_exit_code="1", on_reason="Out*"),),
            {"exit_code": 1, "reason": "Other"},
            Status.STARTING,
        ),
        ((ExitRule("EXIT", on_exit_code="1", on_reason="Out*"),), {"exit_code": 1, "reason": "OutOf"}, Status.FAILED),
    ],
    ids=[
        "no rule",
        "exit code matches",
        "exit code differs",
        "pattern of exit code matches",
        "pattern of exit code and no exit code",
        "any exit code and no exit code",
        "lost host matches first rule",
        "other end matches second rule",
        "only one of two patterns matches",
        "both patterns match",
    ],
)
def test_first_matching_exit_rule_decides_about_another_attempt(batch, rules, outcome, status):
    job = batch.submit(retry=RetryStrategy(2, rules))
    batch.run(job, **outcome)
    assert job.status == status


def test_engine_stops_then_kills_attempt_after_timeout_and_starts_no_other(batch):
    job = batch.submit(timeout=60, retry=RetryStrategy(5))
    task = batch.tasks[job.id].id
    batch.start(job)
    batch.wait(59)
    assert batch.stops == []
    batch.wait(1)
    assert batch.stops == [Stop(task, kill=False)]
    assert batch.engine.next_deadline() == batch.now + STOP_GRACE
    batch.wait(STOP_GRACE)
    assert batch.stops[1:] == [Stop(task, kill=True)]
    batch.exit(job, 137)
    assert (job.status, job.reason, len(job.attempts)) == (Status.FAILED, records.TIMED_OUT, 1)
    assert batch.engine.next_deadline() is None


def test_cancel_ends_waiting_jobs_and_leaves_started_ones(batch):
    running, _, waiting = batch.submit(), batch.submit(), batch.submit()
    for job in (running, waiting):
        batch.cancel(job)
    assert (running.status, batch.stops) == (Status.STARTING, [])
    assert (waiting.status, waiting.reason) == (Status.FAILED, "because")


def test_terminate_stops_running_job_once_and_prevents_another_attempt(batch):
    job = batch.submit(retry=RetryStrategy(3))
    task = batch.tasks[job.id].id
    batch.start(job)
    batch.terminate(job)
    batch.terminate(job, "again")
    assert (job.status, batch.stops) == (Status.RUNNING, [Stop(task, kill=False)])
    batch.exit(job, 143)
    assert (job.status, job.reason, len(job.attempts)) == (Status.FAILED, "because", 1)


def test_terminate_of_array_job_ends_waiting_and_running_children(batch):
    array = batch.submit(array_size=4)
    batch.start(array.children[0])
    batch.terminate(array)
    assert len(batch.stops) == 2
    assert statuses(array.children) == ["RUNNING", "STARTING", "FAILED", "FAILED"]
    for child in array.children[:2]:
        batch.exit(child, 143)
    assert (array.status, array.reason) == (Status.FAILED, "because")
    assert {child.reason for child in array.children} == {"because"}
    assert batch.tasks == {}


def test_cancel_of_array_job_lets_running_children_finish(batch):
    array = batch.submit(array_size=3)
    batch.cancel(array)
    for child in array.children[:2]:
        batch.run(child)
    assert statuses(array.children) == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert (array.status, array.reason) == (Status.FAILED, "because")


def test_dependent_job_waits_until_its_dependency_succeeds(batch):
    first = batch.submit()
    second = batch.submit(depends_on=(Dependency(first.id),))
    assert second.status == Status.PENDING
    batch.run(first)
    assert second.status == Status.STARTING


def test_failed_dependency_fails_direct_and_indirect_dependents(batch):
    first = batch.submit()
    second = batch.submit(array_size=2, depends_on=(Dependency(first.id),))
    third = batch.submit(depends_on=(Dependency(second.id),))
    batch.run(first, 1)
    late = batch.submit(depends_on=(Dependency(second.id),))
    for job in (second, *second.children, third, late):
        assert (job.status, job.reason) == (Status.FAILED, records.DEPENDENCY_FAILED)


def test_dependent_job_starts_immediately_after_succeeded_dependency(batch):
    first = batch.submit()
    batch.run(first)
    assert batch.submit(depends_on=(Dependency(first.id),)).status == Status.STARTING


def test_children_wait_for_dependency_of_their_array_job(batch):
    first = batch.submit()
    array = batch.submit(array_size=2, depends_on=(Dependency(first.id), Dependency(None, "SEQUENTIAL")))
    assert statuses(array.children) == ["PENDING", "PENDING"]
    batch.run(first)
    assert statuses(array.children) == ["STARTING", "PENDING"]


def test_sequential_children_run_one_by_one_and_stop_at_first_failure(batch):
    array = batch.submit(array_size=4, depends_on=(Dependency(None, "SEQUENTIAL"),))
    assert statuses(array.children) == ["STARTING", "PENDING", "PENDING", "PENDING"]
    batch.run(array.children[0])
    assert statuses(array.children) == ["SUCCEEDED", "STARTING", "PENDING", "PENDING"]
    batch.run(array.children[1], 1)
    assert statuses(array.children) == ["SUCCEEDED", "FAILED", "FAILED", "FAILED"]
    assert array.status == Status.FAILED


def test_n_to_n_child_depends_only_on_child_with_its_index(batch):
    first = batch.submit(array_size=2)
    second = batch.submit(array_size=2, depends_on=(Dependency(first.id, "N_TO_N"),))
    batch.run(first.children[1])
    assert statuses(second.children) == ["PENDING", "STARTING"]
    batch.run(first.children[0], 1)
    assert statuses(second.children) == ["FAILED", "STARTING"]
    assert second.children[0].reason == records.DEPENDENCY_FAILED


def test_first_failure_fails_all_children_of_largest_sequential_array(batch):
    # Batch allows 10,000 children. A recursion from child to child would exceed Python's limit.
    array = batch.submit(array_size=10_000, depends_on=(Dependency(None, "SEQUENTIAL"),))
    batch.run(array.children[0], 1)
    assert array.summary[Status.FAILED] == 10_000


def test_refused_array_job_fails_immediately_with_its_children(batch):
    array = batch.submit(array_size=2, immediate_failure=records.OVERRIDES_TOO_LONG)
    assert statuses([array, *array.children]) == ["FAILED"] * 3
    assert array.reason == records.OVERRIDES_TOO_LONG
    assert batch.tasks == {}


def test_engine_ignores_events_of_unknown_and_ended_tasks(batch):
    job = batch.submit()
    task = batch.tasks[job.id]
    batch.run(job)
    assert batch.engine.handle(Exited(task.id, 1), batch.now) == []
    assert batch.engine.handle(Started("nobody"), batch.now) == []
    assert job.status == Status.SUCCEEDED


def test_many_ended_jobs_leave_memory_and_live_ones_stay(batch, monkeypatch):
    monkeypatch.setattr(engine, "ENDED_JOBS", 3)
    first, second, live = batch.submit(array_size=2), batch.submit(), batch.submit()
    for job in (*first.children, second):
        batch.run(job)
    # Jobs that are not stored yet stay.
    batch.engine.make_room()
    assert first.id in batch.engine.jobs
    batch.engine.changed.clear()
    batch.engine.make_room()
    assert set(batch.engine.jobs) == {second.id, live.id}


DAEMON = "CannotPullContainerError: Error response from daemon"


def single_rules(fargate):
    """Return the rules in the job definition of a knot on EC2 instances, or on Fargate."""
    return _filled(RETRY_RULES, {"Fargate": fargate})


@pytest.mark.parametrize(
    ("exit_code", "reason", "status_reason", "several", "single"),
    [
        (TRY_AGAIN, None, records.EXITED, True, True),
        (137, None, records.EXITED, True, False),
        (137, "OutOfMemoryError: Container killed due to memory usage", records.EXITED, False, False),
        (TRY_AGAIN, "OutOfMemoryError: Container killed due to memory usage", records.EXITED, True, True),
        (KILLED, None, records.EXITED, False, False),
        (1, "No space left on device: /tmp", records.EXITED, False, False),
        (139, None, records.EXITED, False, False),
        (None, None, records.HOST_LOST, True, True),
        (None, None, "Your Spot Task was interrupted.", True, True),
        (None, "DockerTimeoutError: Could not transition to started", records.NOT_STARTED, True, True),
        (None, "CannotCreateContainerError: no such volume", records.NOT_STARTED, True, False),
        (None, "CannotPullContainerError: timeout", records.NOT_STARTED, True, True),
        (
            None,
            f"{DAEMON}: manifest for 1.dkr.ecr/pi:1 not found: manifest unknown",
            records.NOT_STARTED,
            False,
            False,
        ),
        (None, f"{DAEMON}: Get https://1.dkr.ecr/v2/: net/http: canceled", records.NOT_STARTED, True, True),
        (None, "CannotStartContainerError: no space left on device", records.NOT_STARTED, True, False),
    ],
)
def test_rules_of_jobs_answer_each_end_of_an_attempt(exit_code, reason, status_reason, several, single):
    ended = Attempt("task", "stream", exit_code=exit_code, reason=reason, status_reason=status_reason)
    for rules, expected in ((RULES_FOR_SEVERAL, several), (single_rules(""), single)):
        strategy = _retry_strategy({"attempts": 10, "evaluateOnExit": list(rules)})
        assert is_retried(strategy, 1, ended) is expected
        assert not is_retried(strategy, 10, ended)


FARGATE_PULL = "CannotPullContainerError: pull image manifest has been retried"


@pytest.mark.parametrize(
    ("reason", "status_reason", "retried"),
    [
        (None, "Your Spot Task was interrupted.", True),
        (None, records.EXITED, False),
        ("ResourceInitializationError: unable to pull registry auth", records.NOT_STARTED, False),
        (f"{FARGATE_PULL} 1 time(s): failed to resolve ref 1.dkr.ecr/pi:1: not found", records.NOT_STARTED, False),
        (f"{FARGATE_PULL} 5 time(s): failed to do request: i/o timeout", records.NOT_STARTED, True),
        ("CannotStartContainerError: no space left on device", records.NOT_STARTED, False),
    ],
)
def test_rules_of_jobs_on_fargate_answer_each_end_of_an_attempt(reason, status_reason, retried):
    ended = Attempt("task", "stream", exit_code=None, reason=reason, status_reason=status_reason)
    strategy = _retry_strategy({"attempts": 10, "evaluateOnExit": single_rules("FARGATE")})
    assert is_retried(strategy, 1, ended) is retried
