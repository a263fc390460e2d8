"""The Batch engine, event by event: a clock and ids that the test gives, and no I/O."""

import itertools
from dataclasses import replace

import pytest

from cloudknot.local.batch import job_api, records
from cloudknot.local.batch.engine import RETENTION, STOP_GRACE, Engine
from cloudknot.local.batch.records import (
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

QUEUE = Queue("q", "arn:aws:batch:us-east-1:1:job-queue/q", 1, "ce", 16)
WORDS = {"image": "r/i:t", "definition": "arn:aws:batch:us-east-1:1:job-definition/d:1", "definition_name": "d"}


def spec(**choices):
    return JobSpec(**{"name": "job", "queue": QUEUE, **WORDS, **choices})


class Cloud:
    """An engine and the tasks it has started and not yet heard of again."""

    def __init__(self, vcpus=2):
        ids = itertools.count()
        self.engine = Engine(vcpus, lambda: f"id{next(ids)}")
        self.now = 1000.0
        self.tasks = {}
        self.stops = []

    def submit(self, **choices):
        job, actions = self.engine.submit(spec(**choices), self.now)
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

    def exit(self, job, exit_code=0, **choices):
        task = self.tasks.pop(job.id)
        self.take(self.engine.handle(Exited(task.id, exit_code, **choices), self.now))

    def run(self, job, exit_code=0, **choices):
        self.start(job)
        self.exit(job, exit_code, **choices)

    def cancel(self, job, reason="because"):
        self.take(self.engine.cancel(job, reason, self.now))

    def terminate(self, job, reason="because"):
        self.take(self.engine.terminate(job, reason, self.now))

    def wait(self, seconds):
        self.now += seconds
        self.take(self.engine.tick(self.now))


@pytest.fixture
def cloud():
    return Cloud()


def statuses(jobs):
    return [str(job.status) for job in jobs]


def test_a_job_goes_through_starting_and_running_to_succeeded(cloud):
    job = cloud.submit()
    assert job.status == Status.STARTING
    cloud.start(job)
    assert (job.status, job.started) == (Status.RUNNING, 1_000_000)
    cloud.now += 1.5
    cloud.exit(job)
    assert (job.status, job.reason, job.stopped) == (Status.SUCCEEDED, records.EXITED, 1_001_500)


def test_a_failed_job_keeps_exit_code_reason_and_log_stream_of_its_attempt(cloud):
    job = cloud.submit()
    stream = cloud.tasks[job.id].log_stream
    cloud.run(job, 3, reason="OutOfMemoryError: Container killed due to memory usage")
    shown = job_api.detail(job)
    assert (shown["status"], shown["statusReason"]) == (Status.FAILED, records.EXITED)
    assert shown["container"]["exitCode"] == 3
    assert shown["attempts"][0]["container"] == {
        "exitCode": 3,
        "reason": "OutOfMemoryError: Container killed due to memory usage",
        "logStreamName": stream,
        "networkInterfaces": [],
    }
    assert stream.startswith("d/default/")


def test_batch_variables_of_a_plain_job_and_of_a_child(cloud):
    plain = cloud.submit(environment={"A": "1"})
    assert cloud.tasks[plain.id].environment == {
        "A": "1",
        "AWS_BATCH_JOB_ID": plain.id,
        "AWS_BATCH_JOB_ATTEMPT": "1",
        "AWS_BATCH_CE_NAME": "ce",
        "AWS_BATCH_JQ_NAME": "q",
    }
    array = cloud.submit(array_size=2)
    child = cloud.tasks[f"{array.id}:0"].environment
    assert (child["AWS_BATCH_JOB_ARRAY_INDEX"], child["AWS_BATCH_JOB_ARRAY_SIZE"]) == ("0", "2")


def test_an_array_parent_is_pending_until_all_its_children_ended(cloud):
    array = cloud.submit(array_size=3)
    assert (array.status, array.summary[Status.STARTING], array.summary[Status.RUNNABLE]) == (Status.PENDING, 2, 1)
    cloud.run(array.children[0], 1)
    cloud.run(array.children[1])
    assert array.status == Status.PENDING
    cloud.run(array.children[2])
    assert (array.status, array.reason) == (Status.FAILED, records.CHILD_FAILED)
    assert (array.summary[Status.SUCCEEDED], array.summary[Status.FAILED]) == (2, 1)


def test_an_array_whose_children_succeed_succeeds(cloud):
    array = cloud.submit(array_size=2)
    for child in array.children:
        cloud.run(child)
    assert (array.status, array.reason) == (Status.SUCCEEDED, None)


def test_vcpus_bound_what_runs_and_order_is_first_in_first_out(cloud):
    jobs = [cloud.submit() for _ in range(4)]
    assert statuses(jobs) == ["STARTING", "STARTING", "RUNNABLE", "RUNNABLE"]
    cloud.run(jobs[1])
    assert statuses(jobs) == ["STARTING", "SUCCEEDED", "STARTING", "RUNNABLE"]


def test_a_job_larger_than_the_machine_runs_alone_and_is_not_overtaken(cloud):
    small, large, other = cloud.submit(), cloud.submit(vcpus=8), cloud.submit()
    assert statuses([small, large, other]) == ["STARTING", "RUNNABLE", "RUNNABLE"]
    cloud.run(small)
    assert statuses([large, other]) == ["STARTING", "RUNNABLE"]
    cloud.run(large)
    assert other.status == Status.STARTING


def test_a_job_larger_than_its_compute_environment_stays_runnable_and_blocks_nobody(cloud):
    misfit, job = cloud.submit(vcpus=17), cloud.submit()
    assert misfit.status == Status.RUNNABLE
    assert misfit.reason.startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")
    assert job.status == Status.STARTING
    cloud.cancel(misfit)
    assert (misfit.status, misfit.reason) == (Status.FAILED, "because")


def limited(seconds=600.0, reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"):
    return replace(QUEUE, time_limits=(TimeLimit("CAPACITY:OTHER", 1.0), TimeLimit(reason, seconds)))


CANCELED = "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"


def test_what_never_starts_is_cancelled_when_it_has_been_the_head_for_long_enough(cloud):
    first, second = (cloud.submit(queue=limited(), vcpus=17) for _ in range(2))
    waits = cloud.submit(queue=limited(), vcpus=2)
    running = cloud.submit(queue=limited(), vcpus=2)
    assert cloud.engine.next_deadline() == cloud.now + 600
    cloud.wait(599)
    assert statuses([first, second]) == ["RUNNABLE", "RUNNABLE"]
    cloud.wait(1)
    assert (first.status, first.reason, first.cancelled) == (Status.FAILED, CANCELED, True)
    assert second.status == Status.RUNNABLE  # It is the head only now.
    assert cloud.engine.next_deadline() == cloud.now + 600
    cloud.wait(600)
    assert (second.status, second.reason) == (Status.FAILED, CANCELED)
    assert cloud.engine.next_deadline() is None
    assert statuses([waits, running]) == ["STARTING", "RUNNABLE"]  # Waiting for its turn ends no job.


def test_children_that_never_start_are_cancelled_one_after_the_other(cloud):
    parent = cloud.submit(queue=limited(), vcpus=17, array_size=2)
    after = cloud.submit(queue=limited(), depends_on=(Dependency(parent.id),))
    cloud.wait(600)
    assert statuses(parent.children) == ["FAILED", "RUNNABLE"]
    cloud.wait(600)
    assert (parent.status, parent.reason) == (Status.FAILED, records.CHILD_FAILED)
    assert (after.status, after.reason) == (Status.FAILED, records.DEPENDENCY_FAILED)


def test_a_head_that_is_ended_by_hand_makes_way_for_the_next(cloud):
    first, second = (cloud.submit(queue=limited(), vcpus=17) for _ in range(2))
    cloud.wait(300)
    cloud.cancel(first)
    cloud.wait(599)
    assert second.status == Status.RUNNABLE
    cloud.wait(1)
    assert second.reason == CANCELED


def test_a_limit_for_another_reason_ends_nothing(cloud):
    misfit = cloud.submit(queue=limited(reason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"), vcpus=17)
    assert cloud.engine.next_deadline() is None
    cloud.wait(10**6)
    assert misfit.status == Status.RUNNABLE


def test_a_full_compute_environment_does_not_hold_up_another_queue():
    cloud = Cloud(vcpus=10)
    narrow = Queue("narrow", "arn:aws:batch:us-east-1:1:job-queue/narrow", 5, "narrow", 1)
    first, second, other = cloud.submit(queue=narrow), cloud.submit(queue=narrow), cloud.submit()
    assert statuses([first, second, other]) == ["STARTING", "RUNNABLE", "STARTING"]


def test_a_queue_of_higher_priority_goes_first(cloud):
    urgent = Queue("urgent", "arn:aws:batch:us-east-1:1:job-queue/urgent", 9, "ce", 16)
    running, usual, favoured = cloud.submit(vcpus=2), cloud.submit(vcpus=2), cloud.submit(vcpus=2, queue=urgent)
    cloud.run(running)
    assert statuses([usual, favoured]) == ["RUNNABLE", "STARTING"]


def test_a_failed_attempt_is_retried_until_the_attempts_are_used_up(cloud):
    job = cloud.submit(retry=RetryStrategy(2))
    cloud.run(job, 1)
    assert (job.status, cloud.tasks[job.id].environment["AWS_BATCH_JOB_ATTEMPT"]) == (Status.STARTING, "2")
    cloud.run(job, 7)
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
)
def test_evaluate_on_exit(cloud, rules, outcome, status):
    job = cloud.submit(retry=RetryStrategy(2, rules))
    cloud.run(job, **outcome)
    assert job.status == status


def test_an_attempt_that_runs_out_of_time_is_stopped_then_killed_and_not_retried(cloud):
    job = cloud.submit(timeout=60, retry=RetryStrategy(5))
    task = cloud.tasks[job.id].id
    cloud.start(job)
    cloud.wait(59)
    assert cloud.stops == []
    cloud.wait(1)
    assert cloud.stops == [Stop(task, kill=False)]
    assert cloud.engine.next_deadline() == cloud.now + STOP_GRACE
    cloud.wait(STOP_GRACE)
    assert cloud.stops[1:] == [Stop(task, kill=True)]
    cloud.exit(job, 137)
    assert (job.status, job.reason, len(job.attempts)) == (Status.FAILED, records.TIMED_OUT, 1)
    assert cloud.engine.next_deadline() is None


def test_cancel_ends_what_waits_and_leaves_what_runs(cloud):
    running, _, waiting = cloud.submit(), cloud.submit(), cloud.submit()
    for job in (running, waiting):
        cloud.cancel(job)
    assert (running.status, cloud.stops) == (Status.STARTING, [])
    assert (waiting.status, waiting.reason) == (Status.FAILED, "because")


def test_terminate_stops_what_runs_and_its_success_comes_too_late(cloud):
    job = cloud.submit(retry=RetryStrategy(3))
    task = cloud.tasks[job.id].id
    cloud.start(job)
    cloud.terminate(job)
    cloud.terminate(job, "again")
    assert (job.status, cloud.stops) == (Status.RUNNING, [Stop(task, kill=False)])
    cloud.exit(job, 143)
    assert (job.status, job.reason, len(job.attempts)) == (Status.FAILED, "because", 1)


def test_terminate_of_a_parent_reaches_waiting_and_running_children(cloud):
    array = cloud.submit(array_size=4)
    cloud.start(array.children[0])
    cloud.terminate(array)
    assert len(cloud.stops) == 2
    assert statuses(array.children) == ["RUNNING", "STARTING", "FAILED", "FAILED"]
    for child in array.children[:2]:
        cloud.exit(child, 143)
    assert (array.status, array.reason) == (Status.FAILED, "because")
    assert {child.reason for child in array.children} == {"because"}
    assert cloud.tasks == {}


def test_cancel_of_a_parent_lets_running_children_end(cloud):
    array = cloud.submit(array_size=3)
    cloud.cancel(array)
    for child in array.children[:2]:
        cloud.run(child)
    assert statuses(array.children) == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert (array.status, array.reason) == (Status.FAILED, "because")


def test_a_dependent_waits_for_success(cloud):
    first = cloud.submit()
    second = cloud.submit(depends_on=(Dependency(first.id),))
    assert second.status == Status.PENDING
    cloud.run(first)
    assert second.status == Status.STARTING


def test_a_failed_dependency_fails_everything_that_hangs_on_it(cloud):
    first = cloud.submit()
    second = cloud.submit(array_size=2, depends_on=(Dependency(first.id),))
    third = cloud.submit(depends_on=(Dependency(second.id),))
    cloud.run(first, 1)
    late = cloud.submit(depends_on=(Dependency(second.id),))
    for job in (second, *second.children, third, late):
        assert (job.status, job.reason) == (Status.FAILED, records.DEPENDENCY_FAILED)


def test_a_dependency_that_ended_well_is_no_wait(cloud):
    first = cloud.submit()
    cloud.run(first)
    assert cloud.submit(depends_on=(Dependency(first.id),)).status == Status.STARTING


def test_children_of_a_dependent_array_wait_for_their_parents_dependency(cloud):
    first = cloud.submit()
    array = cloud.submit(array_size=2, depends_on=(Dependency(first.id), Dependency(None, "SEQUENTIAL")))
    assert statuses(array.children) == ["PENDING", "PENDING"]
    cloud.run(first)
    assert statuses(array.children) == ["STARTING", "PENDING"]


def test_sequential_children_run_one_after_the_other_and_stop_at_a_failure(cloud):
    array = cloud.submit(array_size=4, depends_on=(Dependency(None, "SEQUENTIAL"),))
    assert statuses(array.children) == ["STARTING", "PENDING", "PENDING", "PENDING"]
    cloud.run(array.children[0])
    assert statuses(array.children) == ["SUCCEEDED", "STARTING", "PENDING", "PENDING"]
    cloud.run(array.children[1], 1)
    assert statuses(array.children) == ["SUCCEEDED", "FAILED", "FAILED", "FAILED"]
    assert array.status == Status.FAILED


def test_n_to_n_children_follow_their_own_counterpart(cloud):
    first = cloud.submit(array_size=2)
    second = cloud.submit(array_size=2, depends_on=(Dependency(first.id, "N_TO_N"),))
    cloud.run(first.children[1])
    assert statuses(second.children) == ["PENDING", "STARTING"]
    cloud.run(first.children[0], 1)
    assert statuses(second.children) == ["FAILED", "STARTING"]
    assert second.children[0].reason == records.DEPENDENCY_FAILED


def test_a_long_sequential_array_can_fail_whole(cloud):
    array = cloud.submit(array_size=10_000, depends_on=(Dependency(None, "SEQUENTIAL"),))
    cloud.run(array.children[0], 1)
    assert array.summary[Status.FAILED] == 10_000


def test_a_refused_job_fails_at_once_with_its_children(cloud):
    array = cloud.submit(array_size=2, immediate_failure=records.OVERRIDES_TOO_LONG)
    assert statuses([array, *array.children]) == ["FAILED"] * 3
    assert array.reason == records.OVERRIDES_TOO_LONG
    assert cloud.tasks == {}


def test_events_of_unknown_and_of_ended_tasks_are_ignored(cloud):
    job = cloud.submit()
    task = cloud.tasks[job.id]
    cloud.run(job)
    assert cloud.engine.handle(Exited(task.id, 1), cloud.now) == []
    assert cloud.engine.handle(Started("nobody"), cloud.now) == []
    assert job.status == Status.SUCCEEDED


def test_ended_jobs_are_forgotten_after_a_day_and_live_ones_never(cloud):
    old, live = cloud.submit(array_size=2), cloud.submit(queue=QUEUE)
    for child in old.children:
        cloud.run(child)
    cloud.now += RETENTION + 1
    new = cloud.submit()
    assert set(cloud.engine.jobs) == {live.id, new.id}


def test_pages_of_a_listing_neither_repeat_nor_skip_when_a_job_comes_in_between(cloud):
    jobs = [cloud.submit() for _ in range(5)]

    def listed():
        return reversed(list(cloud.engine.top_level()))

    first = job_api.page({"maxResults": 2}, listed())
    cloud.submit()
    second = job_api.page({"maxResults": 10, "nextToken": first["nextToken"]}, listed())
    shown = [entry["jobId"] for page in (first, second) for entry in page["jobSummaryList"]]
    assert shown == [job.id for job in reversed(jobs)]
    assert "nextToken" not in second
