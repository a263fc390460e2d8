"""When a transfer waits, and when it gives up."""

import threading
import time

import pytest

from cloudknot.aws.images.registry.patience import Patience, StoppedTransferError
from cloudknot.errors import CloudError

ERROR = CloudError("The registry does not answer. Start it.")


def test_waits_grow_until_the_limit_is_reached():
    patience = Patience(lambda: 0.8, threading.Event())
    began = time.monotonic()
    with pytest.raises(CloudError, match="does not answer"):
        wait_often(patience)
    assert 0.1 < time.monotonic() - began < 0.9


def wait_often(patience):
    for _ in range(100):
        patience.wait(ERROR)


def test_progress_and_time_with_moving_bytes_do_not_count():
    patience = Patience(lambda: 0.5, threading.Event())
    time.sleep(0.5)
    patience.excuse(0.5)
    patience.wait(ERROR)
    time.sleep(0.5)
    patience.progressed()
    patience.wait(ERROR)
    time.sleep(0.5)
    with pytest.raises(CloudError):
        patience.wait(ERROR)


def test_longer_wait_than_the_limit_ends_at_once():
    began = time.monotonic()
    with pytest.raises(CloudError):
        Patience(lambda: 100, threading.Event()).wait(ERROR, after=3600)
    assert time.monotonic() - began < 1


def test_no_limit_is_one_attempt():
    with pytest.raises(CloudError):
        Patience(lambda: 0, threading.Event()).wait(ERROR)


@pytest.mark.parametrize("which", [0, 1])
def test_each_stop_ends_the_transfer(which):
    stops = [threading.Event(), threading.Event()]
    patience = Patience(lambda: 100, *stops)
    patience.check()
    stops[which].set()
    with pytest.raises(StoppedTransferError):
        patience.wait(ERROR)


def test_stop_ends_a_wait():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedTransferError):
        Patience(lambda: 100, stop).wait(ERROR, after=30)
    assert time.monotonic() - began < 5
