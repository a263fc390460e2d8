"""SIGTERM ends the function immediately, but lets an upload finish. No real signal is sent."""

import pytest

from cloudknot.worker import element
from cloudknot.worker.element import Stopped, StopSignal, run_element


class StopsJob:
    """A result that Batch interrupts during pickling."""

    def __reduce__(self):
        raise Stopped


class StoppedError(Exception):
    """An exception during whose pickling SIGTERM arrives. Pickling catches all that the user's code raises."""

    def __reduce__(self):
        element.stop_signal.receive()
        return super().__reduce__()


def raise_stopped_error(x):
    raise StoppedError


@pytest.mark.parametrize("function", [lambda x: StopsJob(), raise_stopped_error], ids=["result", "exception"])
def test_stop_during_pickling_is_not_outcome_of_element(monkeypatch, function):
    """A stored failure would keep later attempts from computing the element again."""
    monkeypatch.setattr(element, "stop_signal", StopSignal())
    with pytest.raises(Stopped):
        run_element(function, lambda: 1, False)


def test_stop_waits_until_upload_has_finished():
    stop_signal, stored = StopSignal(), []

    def store():
        with stop_signal.deferred():
            with stop_signal.deferred():
                stop_signal.receive()
                stored.append(1)
            stored.append(2)

    with pytest.raises(Stopped):
        store()
    assert stored == [1, 2]


def test_worker_stops_after_upload_if_function_swallowed_stop():
    stop_signal = StopSignal()

    def swallow_stop():
        try:
            stop_signal.receive()
        except BaseException:
            return "value"

    assert swallow_stop() == "value"
    with pytest.raises(Stopped), stop_signal.deferred():
        pass


def test_upload_error_takes_precedence_over_stop():
    stop_signal = StopSignal()

    def store():
        with stop_signal.deferred():
            stop_signal.receive()
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        store()
