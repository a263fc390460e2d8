"""When a transfer waits, and when it gives up. The clock is a fake."""

import threading

import pytest

from cloudknot.aws.images.registry import patience as module
from cloudknot.aws.images.registry.patience import FIRST_WAIT, LONGEST_WAIT, Patience, StoppedTransferError
from cloudknot.aws.sdk import interrupts
from cloudknot.errors import CloudError
from tests.helpers.waiting import LONG

ERROR = CloudError("The registry does not answer. Start it.")


class Clock:
    """A clock that moves only during waits, and keeps their lengths."""

    def __init__(self):
        self.now, self.waits = 0.0, []

    def monotonic(self):
        return self.now

    def wait(self, event, seconds):
        self.waits.append(seconds)
        self.now += seconds
        return event.is_set()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(interrupts, "wait_for_event", clock.wait)
    return clock


def test_waits_grow_until_the_limit_is_reached(clock):
    patience = Patience(lambda: 20.0, threading.Event())
    with pytest.raises(CloudError, match="does not answer"):
        wait_often(patience)
    assert 3 < len(clock.waits) < 10
    for number, seconds in enumerate(clock.waits):
        longest = min(FIRST_WAIT * 2**number, LONGEST_WAIT)
        assert longest / 2 <= seconds <= longest
    assert clock.now <= 20


def wait_often(patience):
    for _ in range(100):
        patience.wait(ERROR)


def test_progress_and_time_with_moving_bytes_do_not_count(clock):
    patience = Patience(lambda: 0.5, threading.Event())
    clock.now += 0.5
    patience.excuse(0.5)
    patience.wait(ERROR)
    clock.now += 0.5
    patience.progressed()
    patience.wait(ERROR)
    clock.now += 0.5
    with pytest.raises(CloudError):
        patience.wait(ERROR)


def test_longer_wait_than_the_limit_ends_at_once(clock):
    with pytest.raises(CloudError):
        Patience(lambda: 100, threading.Event()).wait(ERROR, after=3600)
    assert clock.waits == []


def test_no_limit_is_one_attempt(clock):
    with pytest.raises(CloudError):
        Patience(lambda: 0, threading.Event()).wait(ERROR)
    assert clock.waits == []


@pytest.mark.parametrize("which", [0, 1])
def test_each_stop_ends_the_transfer(which):
    stops = [threading.Event(), threading.Event()]
    patience = Patience(lambda: 100, *stops)
    patience.check()
    stops[which].set()
    with pytest.raises(StoppedTransferError):
        patience.wait(ERROR)


def test_stop_ends_a_wait():
    stop, waiting = threading.Event(), Waiting()
    threading.Thread(target=waiting.end, args=(stop,)).start()
    with pytest.raises(StoppedTransferError):
        Patience(waiting.limit, stop).wait(ERROR, after=10 * LONG)


class Waiting:
    """A limit that shows when it was asked for: just before the wait."""

    def __init__(self):
        self._asked = threading.Event()

    def limit(self):
        self._asked.set()
        return 100 * LONG

    def end(self, stop):
        """Set ``stop`` once the limit was asked for."""
        self._asked.wait(LONG)
        stop.set()
