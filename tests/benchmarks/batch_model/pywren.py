"""The simulation of PyWren on AWS Lambda: one invocation for each element, within Lambda's limits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from tests.benchmarks.batch_model.constants import LambdaConstants


def simulate_pywren(
    count: int,
    seconds: Callable[[int], float],
    memory: float = 0.0,
    warm: int = 0,
    constants: LambdaConstants | None = None,
) -> float | None:
    """Return the seconds from the first invocation to the end of the last one; None if a limit ends the map.

    Parameters
    ----------
    count : int
        Number of elements.
    seconds : callable
        Returns the seconds of an element on an EC2 instance.
    memory : float
        MiB that an element needs.
    warm : int
        Containers that an earlier map has left. Others set up Python first.
    constants : LambdaConstants, optional
    """
    lambda_ = constants or LambdaConstants()
    longest = max(map(seconds, range(count))) * lambda_.slowdown
    if memory > lambda_.memory_limit or longest > lambda_.time_limit:
        return None
    clock = simpy.Environment()
    places = simpy.Resource(clock, lambda_.concurrency)
    idle = [warm]

    def invocation(element: int) -> Generator[Any, Any, None]:
        with places.request() as place:
            yield place
            is_warm = idle[0] > 0
            idle[0] -= is_warm
            start = lambda_.warm_start if is_warm else lambda_.cold_start
            yield clock.timeout(start + seconds(element) * lambda_.slowdown)
            idle[0] += 1

    def session() -> Generator[Any, Any, None]:
        invocations = []
        for element in range(count):
            invocations.append(clock.process(invocation(element)))
            yield clock.timeout(1 / lambda_.invocation_rate)
        yield clock.all_of(invocations)

    clock.run(until=clock.process(session()))
    return float(clock.now)
