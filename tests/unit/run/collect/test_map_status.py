"""The reasons for waiting jobs that a map requests from Batch and reports, with a fake clock and a fake Batch."""

import pytest

from cloudknot.local.batch.records import TOO_MANY_VCPUS
from cloudknot.run.collect.map_status import FIRST, LONGEST, StuckWatch, explain


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Batch:
    """A fake Batch that gives reasons in turn and counts the requests."""

    def __init__(self, *reasons):
        self.reasons, self.requests = list(reasons), 0

    def __call__(self):
        self.requests += 1
        return self.reasons.pop(0) if len(self.reasons) > 1 else self.reasons[0]


WAITING = {"RUNNABLE": 3, "SUCCEEDED": 1}


def reported(watch, clock, batch, states, seconds):
    """Look once a second and return the reported reasons."""
    reasons = []
    for _ in range(seconds):
        reasons.append(watch.look(states, batch))
        clock.now += 1
    return [reason for reason in reasons if reason]


def test_watch_reports_reason_once_and_requests_it_ever_less_often():
    clock, batch = Clock(), Batch("", TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    assert reported(watch, clock, batch, WAITING, 3600) == [TOO_MANY_VCPUS]
    assert batch.requests < 3600 / LONGEST + 10


def test_watch_keeps_reason_until_job_runs():
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    reported(watch, clock, batch, WAITING, int(FIRST))
    assert watch.reason == ""
    reported(watch, clock, batch, WAITING, 5)
    assert watch.reason == TOO_MANY_VCPUS
    reported(watch, clock, batch, {"RUNNING": 1, "RUNNABLE": 2}, 1)
    assert watch.reason == ""


def test_watch_reports_each_new_reason_once():
    clock, batch = Clock(), Batch("CAPACITY:A", "CAPACITY:B", "CAPACITY:A")
    assert reported(StuckWatch(clock), clock, batch, WAITING, 3600) == ["CAPACITY:A", "CAPACITY:B"]


@pytest.mark.parametrize("states", [{}, {"RUNNABLE": 3, "RUNNING": 1}, {"RUNNABLE": 1, "STARTING": 1}, {"PENDING": 1}])
def test_watch_requests_no_reason_if_jobs_run_or_none_waits(states):
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    assert reported(StuckWatch(clock), clock, batch, states, 100) == []
    assert batch.requests == 0


def test_watch_requests_no_reason_for_short_waits():
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    for _ in range(10):
        reported(watch, clock, batch, WAITING, int(FIRST) - 1)
        reported(watch, clock, batch, {"RUNNING": 1}, 5)
    assert batch.requests == 0


# Each statusReason in the AWS Batch user guide, "Jobs stuck in a RUNNABLE status", and words of its explanation.
DOCUMENTED = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
    "[m5.large]": (
        "no machine of these instance types",
        "AWS keeps trying",
        "create the Knot with more instance_types",
    ),
    TOO_MANY_VCPUS: ("more vCPUs than its knot may have", "never start", "future.cancel()", "max_vcpus"),
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that "
    "can be met by the CE(s) attached to the job queue.": (
        "memory or GPUs",
        "never start",
        "future.cancel()",
        "ask for less",
    ),
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - Your compute environment associated with this job "
    "queue has an unsupported instance type configuration.": (
        "never start",
        "future.cancel()",
        "other instance_types",
    ),
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS \N{EN DASH} Batch service role has a permission issue.": (
        "lacks a permission to start machines",
        "administrator of the AWS account",
        "batch_service_role_name",
    ),
    "ACTION_REQUIRED - CE(s) associated with the job queue are invalid.": (
        "clobber(), which keeps results",
        "create it again",
    ),
    "UNDETERMINED - Batch job is blocked, root cause is undetermined.": (
        "AWS Batch cannot determine why",
        "quota",
        "future.cancel()",
    ),
}


@pytest.mark.parametrize("reason", DOCUMENTED)
def test_explanation_of_documented_reason_has_fix_and_quotes_aws(reason):
    explanation = explain("pi-calc", reason)
    assert explanation.startswith(
        ("pi-calc: a job is waiting, because ", "pi-calc: a job is waiting, and AWS Batch cannot ")
    )
    assert [text for text in DOCUMENTED[reason] if text not in explanation] == []
    assert explanation.endswith(f". AWS reports: {reason.rstrip('.')}")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("CAPACITY:SOMETHING_NEW", "no machine for it at the moment"),
        ("MISCONFIGURATION:SOMETHING_NEW", "not set up to run it"),
        ("A reason nobody has met", "a job is waiting. AWS reports: A reason nobody has met"),
    ],
)
def test_explanation_of_unknown_reason_quotes_aws(reason, text):
    explanation = explain("pi-calc", reason)
    assert text in explanation
    assert explanation.endswith(f"AWS reports: {reason}")
