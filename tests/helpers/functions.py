"""Functions that tests map."""

import time


def square(x: int) -> int:
    return x * x


def cube(x: int) -> int:
    return x * x * x


def double(x: int) -> int:
    return 2 * x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
