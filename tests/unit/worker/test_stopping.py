"""SIGTERM in a job: the function ends, what is being stored does not."""

import pytest

from cloudknot.worker.element import Stopped, StopSignal, run_element


class Stops:
    """Batch stops the job while this is pickled."""

    def __reduce__(self):
        raise Stopped


class StoppedError(Exception):
    def __reduce__(self):
        raise Stopped


def raise_it(x):
    raise StoppedError


@pytest.mark.parametrize("function", [lambda x: Stops(), raise_it])
def test_a_stop_is_no_outcome_of_an_element(function):
    """It would be stored, and no attempt would compute the element again."""
    with pytest.raises(Stopped):
        run_element(function, lambda: 1, False)


def test_a_stop_waits_for_what_is_being_stored():
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


def test_a_function_that_took_no_notice_is_stopped_after_its_element():
    stop_signal = StopSignal()

    def careless():
        try:
            stop_signal.receive()
        except BaseException:
            return "value"

    assert careless() == "value"
    with pytest.raises(Stopped), stop_signal.deferred():
        pass


def test_what_went_wrong_while_storing_is_told_first():
    stop_signal = StopSignal()

    def store():
        with stop_signal.deferred():
            stop_signal.receive()
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        store()
