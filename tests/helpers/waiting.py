"""Waiting for a condition, with a bound."""

import time

LONG = 120
"""Seconds. Nothing takes that long on an idle machine, but the machine may be busy."""


def until(condition, timeout=LONG, pause=0.02):
    """Return the first true value of a condition.

    Raises
    ------
    AssertionError
        The condition stays false for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(pause)
    raise AssertionError(f"waited in vain for {timeout} s")
