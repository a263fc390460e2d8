"""Waits end when their condition holds or their time has passed, in one piece or, on Windows, in slices."""

import sys
import threading
import time
from concurrent.futures import Future

import pytest

from cloudknot.aws.sdk import interrupts

LONG = 3 * interrupts.SLICE


@pytest.fixture(params=["linux", "win32"], autouse=True)
def platform(request, monkeypatch):
    monkeypatch.setattr(sys, "platform", request.param)


def later(act):
    timer = threading.Timer(LONG, act)
    timer.start()
    return timer


def test_condition_that_holds_later():
    condition, found = threading.Condition(), []

    def add():
        with condition:
            found.append(1)
            condition.notify_all()

    later(add)
    with condition:
        assert interrupts.wait_for(condition, lambda: found)


@pytest.mark.parametrize("timeout", [0, 0.01, LONG, -1])
def test_condition_that_never_holds(timeout):
    condition = threading.Condition()
    with condition:
        assert not interrupts.wait_for(condition, lambda: False, timeout)


def test_condition_that_holds_without_a_notification_is_seen_at_the_end():
    condition, begun = threading.Condition(), time.monotonic()
    with condition:
        assert interrupts.wait_for(condition, lambda: time.monotonic() > begun + LONG / 2, LONG)


def test_event():
    event = threading.Event()
    assert not interrupts.wait_for_event(event, 0.01)
    later(event.set)
    assert interrupts.wait_for_event(event, 60)


def test_thread():
    thread = later(lambda: None)
    interrupts.join(thread)
    assert not thread.is_alive()


def test_futures():
    first, second = Future(), Future()
    later(lambda: first.set_exception(ValueError()))
    assert not interrupts.wait_for_first_error([first, second])
    second.set_result(1)
    assert interrupts.wait_for_first_error([first, second])
    assert interrupts.wait_for_first_error([])
