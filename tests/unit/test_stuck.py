"""When Batch is asked why jobs wait, and what is told of it."""

import pytest

from cloudknot.local.records import DOES_NOT_FIT
from cloudknot.stuck import FIRST, LONGEST, StuckWatch, explain


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
    clock, batch = Clock(), Batch("", DOES_NOT_FIT)
    watch = StuckWatch(clock)
    assert looks(watch, clock, batch, WAITS, 3600) == [DOES_NOT_FIT]
    assert batch.asked < 3600 / LONGEST + 10


def test_the_reason_is_known_as_long_as_nothing_runs():
    clock, batch = Clock(), Batch(DOES_NOT_FIT)
    watch = StuckWatch(clock)
    looks(watch, clock, batch, WAITS, int(FIRST))
    assert watch.reason == ""
    looks(watch, clock, batch, WAITS, 5)
    assert watch.reason == DOES_NOT_FIT
    looks(watch, clock, batch, {"RUNNING": 1, "RUNNABLE": 2}, 1)
    assert watch.reason == ""


def test_another_reason_is_told_too():
    clock, batch = Clock(), Batch("CAPACITY:A", "CAPACITY:B", "CAPACITY:A")
    assert looks(StuckWatch(clock), clock, batch, WAITS, 3600) == ["CAPACITY:A", "CAPACITY:B"]


@pytest.mark.parametrize("states", [{}, {"RUNNABLE": 3, "RUNNING": 1}, {"RUNNABLE": 1, "STARTING": 1}, {"PENDING": 1}])
def test_where_something_runs_or_nothing_waits_batch_is_not_asked(states):
    clock, batch = Clock(), Batch(DOES_NOT_FIT)
    assert looks(StuckWatch(clock), clock, batch, states, 100) == []
    assert batch.asked == 0


def test_what_waits_shortly_is_not_asked_for():
    clock, batch = Clock(), Batch(DOES_NOT_FIT)
    watch = StuckWatch(clock)
    for _ in range(10):
        looks(watch, clock, batch, WAITS, int(FIRST) - 1)
        looks(watch, clock, batch, {"RUNNING": 1}, 5)
    assert batch.asked == 0


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (DOES_NOT_FIT, "asks for more vCPUs, memory or GPUs than any machine"),
        ("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) max", "max_vcpus"),
        ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot", "instance types"),
        ("MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - The", "without image_id"),
        ("MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - Batch service role", "Show this to whoever administers"),
        ("ACTION_REQUIRED - CE(s) associated with the job queue are invalid.", "remove the knot by clobber()"),
        ("UNDETERMINED - Batch job is blocked, root cause is undetermined.", "a way to the internet"),
        ("CAPACITY:SOMETHING_NEW", "no machine for it at the moment"),
        ("MISCONFIGURATION:SOMETHING_NEW", "not set up"),
        ("A reason nobody has met", "a job waits. AWS says: A reason nobody has met"),
    ],
)
def test_a_reason_is_explained_and_quoted(reason, text):
    told = explain("pi-calc", reason)
    assert told.startswith("pi-calc: a job waits")
    assert text in told
    assert told.endswith(f"AWS says: {reason}")
