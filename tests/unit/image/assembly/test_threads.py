"""Functions run at the same time, and the first error ends the rest."""

import threading

import pytest

from cloudknot.image.assembly.threads import AT_ONCE, run_all


def test_results_have_the_order_of_the_functions():
    assert run_all([lambda number=number: number * 2 for number in range(50)]) == list(range(0, 100, 2))
    assert run_all([]) == []


def test_functions_run_at_the_same_time():
    barrier = threading.Barrier(AT_ONCE)
    run_all([lambda: barrier.wait(30)] * AT_ONCE)


def test_first_error_is_raised_and_no_other_call_begins():
    called = []

    def fail():
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run_all([fail] * AT_ONCE + [lambda: called.append(1)] * 100)
    assert called == []


def test_threads_do_not_keep_the_program_alive():
    seen = run_all([lambda: threading.current_thread().daemon])
    assert seen == [True]
