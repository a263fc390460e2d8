"""When Batch is asked why jobs wait, and what is told of it."""

import pytest

from cloudknot.local.batch.records import TOO_MANY_VCPUS
from cloudknot.run.collect.map_status import FIRST, LONGEST, StuckWatch, explain


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Batch:
    """Gives reasons in turn, and counts how often it was asked."""

    def __init__(self, *reasons):
        self.reasons, self.asked = list(reasons), 0

    def __call__(self):
        self.asked += 1
        return self.reasons.pop(0) if len(self.reasons) > 1 else self.reasons[0]


WAITS = {"RUNNABLE": 3, "SUCCEEDED": 1}


def looks(watch, clock, batch, states, seconds):
    told = []
    for _ in range(seconds):
        told.append(watch.look(states, batch))
        clock.now += 1
    return [reason for reason in told if reason]


def test_a_reason_is_told_once_and_asked_for_ever_more_rarely():
    clock, batch = Clock(), Batch("", TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    assert looks(watch, clock, batch, WAITS, 3600) == [TOO_MANY_VCPUS]
    assert batch.asked < 3600 / LONGEST + 10


def test_the_reason_is_known_as_long_as_nothing_runs():
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    looks(watch, clock, batch, WAITS, int(FIRST))
    assert watch.reason == ""
    looks(watch, clock, batch, WAITS, 5)
    assert watch.reason == TOO_MANY_VCPUS
    looks(watch, clock, batch, {"RUNNING": 1, "RUNNABLE": 2}, 1)
    assert watch.reason == ""


def test_another_reason_is_told_too():
    clock, batch = Clock(), Batch("CAPACITY:A", "CAPACITY:B", "CAPACITY:A")
    assert looks(StuckWatch(clock), clock, batch, WAITS, 3600) == ["CAPACITY:A", "CAPACITY:B"]


@pytest.mark.parametrize("states", [{}, {"RUNNABLE": 3, "RUNNING": 1}, {"RUNNABLE": 1, "STARTING": 1}, {"PENDING": 1}])
def test_where_something_runs_or_nothing_waits_batch_is_not_asked(states):
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    assert looks(StuckWatch(clock), clock, batch, states, 100) == []
    assert batch.asked == 0


def test_what_waits_shortly_is_not_asked_for():
    clock, batch = Clock(), Batch(TOO_MANY_VCPUS)
    watch = StuckWatch(clock)
    for _ in range(10):
        looks(watch, clock, batch, WAITS, int(FIRST) - 1)
        looks(watch, clock, batch, {"RUNNING": 1}, 5)
    assert batch.asked == 0


# The statusReasons that the AWS Batch user guide gives in "Jobs stuck in a RUNNABLE status", and what a person learns.
DOCUMENTED = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
    "[m5.large]": ("no machine of these instance types", "AWS keeps trying", "more instance_types"),
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
        "make it again",
    ),
    "UNDETERMINED - Batch job is blocked, root cause is undetermined.": (
        "AWS Batch cannot determine why",
        "quota",
        "future.cancel()",
    ),
}


@pytest.mark.parametrize("reason", DOCUMENTED)
def test_each_documented_reason_is_explained_with_what_to_do_and_quoted(reason):
    told = explain("pi-calc", reason)
    assert told.startswith(("pi-calc: a job is waiting, because ", "pi-calc: a job is waiting, and AWS Batch cannot "))
    assert [text for text in DOCUMENTED[reason] if text not in told] == []
    assert told.endswith(f". AWS reports: {reason.rstrip('.')}")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("CAPACITY:SOMETHING_NEW", "no machine for it at the moment"),
        ("MISCONFIGURATION:SOMETHING_NEW", "not set up to run it"),
        ("A reason nobody has met", "a job is waiting. AWS reports: A reason nobody has met"),
    ],
)
def test_a_reason_that_is_not_documented_is_quoted_too(reason, text):
    told = explain("pi-calc", reason)
    assert text in told
    assert told.endswith(f"AWS reports: {reason}")
