"""Waiting for a condition, with a bound."""

import time

LONG = 120
"""Seconds; nothing here takes that long, but the machine may be busy."""


def until(condition, timeout=LONG, pause=0.02):
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(pause)
    raise AssertionError(f"waited in vain for {timeout} s")
