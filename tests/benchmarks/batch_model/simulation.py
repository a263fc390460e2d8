"""The simulation of one map on AWS Batch: queue, scheduler, machines, attempts, Spot losses.

SubmitJob is at time 0. The children wait in a queue, first in first out. The scheduler places them on free slots. A
slot is the share of a machine that one job takes. The compute environment starts machines at intervals.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import simpy

from cloudknot.deploy.job_definition import ATTEMPTS
from cloudknot.run.collect.timers import LONGEST_PAUSE, PAUSE_SHARE, SHORTEST_PAUSE
from cloudknot.worker.results import FIRST_INTERVAL, GROWTH, LONGEST_INTERVAL
from tests.benchmarks.batch_model.constants import BatchConstants

HOUR = 3600.0
Process = Generator[Any, Any, None]


@dataclass(frozen=True)
class Environment:
    """A compute environment as the map finds it.

    Attributes
    ----------
    min_vcpus, max_vcpus : int
    max_instances : int
        EC2's limit for the account.
    warm_vcpus : int
        vCPUs of machines that run already.
    has_image : bool
        Whether these machines have pulled the image.
    losses_per_hour : float
        Spot machines that AWS takes back in an hour, as a share of the running ones. 0 means on-demand machines.
    """

    min_vcpus: int = 0
    max_vcpus: int = 256
    max_instances: int = 1_000_000
    warm_vcpus: int = 0
    has_image: bool = True
    losses_per_hour: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One attempt of a child, from its dispatch to its end.

    Attributes
    ----------
    child, number, instance : int
    started, ended : float
    stored : range
        Elements with results that this attempt stored.
    seconds, lost : float
        Seconds that elements took in all, and those of elements without a stored result.
    """

    child: int
    number: int
    instance: int
    started: float
    ended: float
    stored: range
    seconds: float
    lost: float


@dataclass(frozen=True)
class Outcome:
    """A simulated map.

    Attributes
    ----------
    attempts : tuple of Attempt
    failed : tuple of int
        Children that used up their attempts.
    seconds : float
        From SubmitJob to the end of the last child.
    first_look : float
        Time at which the compute environment first compared the queue with its machines.
    most_vcpus : int
        vCPUs of machines that were starting or running at the same time, at most.
    vcpu_hours : float
        vCPU hours of all machines until the map ended.
    """

    attempts: tuple[Attempt, ...]
    failed: tuple[int, ...]
    seconds: float
    first_look: float
    most_vcpus: int
    vcpu_hours: float

    @property
    def collected(self) -> float:
        """The seconds until a waiting session has seen all results. It polls at the collector's intervals."""
        time = 0.0
        while time < self.seconds:
            time += min(LONGEST_PAUSE, max(SHORTEST_PAUSE, time * PAUSE_SHARE))
        return time


def simulate(
    chunks: Sequence[range],
    seconds: Callable[[int], float],
    environment: Environment | None = None,
    constants: BatchConstants | None = None,
    seed: int = 0,
) -> Outcome:
    """Return the outcome of a map.

    Parameters
    ----------
    chunks : sequence of range
        The elements of each child.
    seconds : callable
        Returns the seconds of an element.
    environment : Environment, optional
    constants : BatchConstants, optional
    seed : int, default 0
        For the random times: the first look at the queue, the start of machines, Spot losses.

    Raises
    ------
    ValueError
        No machine may run, or no job fits on one. The map would never end.
    """
    environment, constants = environment or Environment(), constants or BatchConstants()
    if constants.slots < 1 or min(environment.max_vcpus // constants.instance_vcpus, environment.max_instances) < 1:
        raise ValueError("No job of this map can run. Allow larger or more machines.")
    return _Map(chunks, seconds, environment, constants, seed).run()


@dataclass(eq=False)
class _Machine:
    number: int
    free: int
    began: float
    up: bool = True
    ended: float | None = None
    pull: simpy.Event | None = None
    attempts: set[simpy.Process] = field(default_factory=set)


class _Map:
    """The processes of one map."""

    def __init__(
        self,
        chunks: Sequence[range],
        seconds: Callable[[int], float],
        environment: Environment,
        constants: BatchConstants,
        seed: int,
    ) -> None:
        self._clock = simpy.Environment()
        self._environment, self._constants = environment, constants
        self._chances = random.Random(seed)
        self._todo = dict(enumerate(chunks))
        self._numbers = dict.fromkeys(self._todo, 0)
        self._ends = [list(accumulate(map(seconds, chunk), initial=0.0)) for chunk in chunks]
        self._chunks = chunks
        self._queue, self._slots = simpy.Store(self._clock), simpy.Store(self._clock)
        self._machines: list[_Machine] = []
        self._attempts: list[Attempt] = []
        self._failed: list[int] = []
        self._first_look, self._most, self._finished = 0.0, 0, self._clock.event()

    def run(self) -> Outcome:
        """Run the map to its end."""
        for _ in range(self._environment.warm_vcpus // self._constants.instance_vcpus):
            self._add_machine(warm=True)
        for process in (self._accept(), self._schedule(), self._scale()):
            self._clock.process(process)
        self._clock.run(until=self._finished)
        used = sum((machine.ended or self._clock.now) - machine.began for machine in self._machines)
        return Outcome(
            attempts=tuple(self._attempts),
            failed=tuple(self._failed),
            seconds=self._clock.now,
            first_look=self._first_look,
            most_vcpus=self._most,
            vcpu_hours=used * self._constants.instance_vcpus / HOUR,
        )

    def _accept(self) -> Process:
        """Make all children RUNNABLE."""
        yield self._clock.timeout(self._constants.accept)
        for child in self._todo:
            yield self._queue.put(child)

    def _schedule(self) -> Process:
        """Place one child after the other on a slot, at no more than the dispatch rate."""
        while True:
            child = yield self._queue.get()
            machine = yield self._slots.get()
            while not machine.up:
                machine = yield self._slots.get()
            machine.free -= 1
            yield self._clock.timeout(1 / self._constants.dispatch_rate)
            attempt = self._clock.process(self._attempt(child, machine))
            machine.attempts.add(attempt)

    def _scale(self) -> Process:
        """Compare the machines with the unfinished children at intervals. Start or end machines."""
        interval = self._constants.scaling_interval
        yield self._clock.timeout(self._constants.accept + self._chances.uniform(0, interval))
        self._first_look = self._clock.now
        while True:
            running = [machine for machine in self._machines if machine.ended is None]
            missing = self._wanted() - len(running)
            for _ in range(missing):
                self._add_machine(warm=False)
            idle = [machine for machine in running if machine.up and machine.free == self._constants.slots]
            for machine in idle[: max(0, -missing)]:
                self._end(machine)
            yield self._clock.timeout(interval)

    def _wanted(self) -> int:
        """Return the number of machines for all unfinished children, within the limits."""
        here, size = self._environment, self._constants.instance_vcpus
        wanted = max(-(-len(self._todo) // self._constants.slots), -(-here.min_vcpus // size))
        return min(wanted, here.max_vcpus // size, here.max_instances)

    def _add_machine(self, warm: bool) -> None:
        machine = _Machine(len(self._machines), self._constants.slots, self._clock.now, up=warm)
        self._machines.append(machine)
        running = sum(other.ended is None for other in self._machines)
        self._most = max(self._most, running * self._constants.instance_vcpus)
        if warm:
            machine.pull = self._clock.event().succeed() if self._environment.has_image else None
            self._open(machine)
        else:
            self._clock.process(self._start(machine))

    def _start(self, machine: _Machine) -> Process:
        spread = self._constants.instance_start_spread
        yield self._clock.timeout(self._constants.instance_start * self._chances.lognormvariate(0, spread))
        machine.up = True
        self._open(machine)

    def _open(self, machine: _Machine) -> None:
        for _ in range(machine.free):
            self._slots.put(machine)
        if self._environment.losses_per_hour:
            self._clock.process(self._lose(machine))

    def _lose(self, machine: _Machine) -> Process:
        """Let AWS take a Spot machine back after a random time."""
        yield self._clock.timeout(self._chances.expovariate(self._environment.losses_per_hour) * HOUR)
        self._end(machine)

    def _end(self, machine: _Machine) -> None:
        if machine.ended is None:
            machine.up, machine.ended = False, self._clock.now
            for attempt in machine.attempts:
                attempt.interrupt()
            machine.attempts.clear()

    def _attempt(self, child: int, machine: _Machine) -> Process:
        """Run the elements of a child that have no stored result."""
        if not machine.up:
            # AWS took the machine back while the scheduler placed the child.
            yield self._queue.put(child)
            return
        begun, running_since, work = self._clock.now, None, self._work(child)
        self._numbers[child] += 1
        try:
            yield from self._start_container(machine)
            running_since = self._clock.now
            yield self._clock.timeout(work + self._constants.upload)
        except simpy.Interrupt:
            took = 0.0 if running_since is None else min(work, self._clock.now - running_since)
            self._record(child, machine, begun, took, self._stored(child, took))
            self._clock.process(self._retry(child))
            return
        machine.attempts.discard(self._clock.active_process)
        self._record(child, machine, begun, work, self._todo[child])
        self._finish(child)
        yield self._clock.timeout(self._constants.slot_turnaround)
        machine.free += 1
        yield self._slots.put(machine)

    def _start_container(self, machine: _Machine) -> Process:
        if machine.pull is None:
            machine.pull = self._clock.timeout(self._constants.image_pull)
        yield machine.pull
        yield self._clock.timeout(self._constants.container_start + self._constants.worker_start)

    def _work(self, child: int) -> float:
        """Return the seconds of the elements of a child that have no stored result."""
        return self._ends[child][-1] - self._before(child)

    def _before(self, child: int) -> float:
        return self._ends[child][self._todo[child].start - self._chunks[child].start]

    def _stored(self, child: int, took: float) -> range:
        """Return the elements with results in S3 if a child dies after ``took`` seconds of its elements."""
        todo, stored = self._todo[child], last_store(took)
        done = bisect_right(self._ends[child], self._before(child) + stored) - 1 if stored else 0
        return range(todo.start, max(todo.start, self._chunks[child].start + done))

    def _record(self, child: int, machine: _Machine, begun: float, seconds: float, stored: range) -> None:
        first = self._chunks[child].start
        useful = self._ends[child][stored.stop - first] - self._ends[child][stored.start - first]
        self._attempts.append(
            Attempt(
                child=child,
                number=self._numbers[child],
                instance=machine.number,
                started=begun,
                ended=self._clock.now,
                stored=stored,
                seconds=seconds,
                lost=seconds - useful,
            )
        )
        self._todo[child] = range(stored.stop, self._todo[child].stop)

    def _retry(self, child: int) -> Process:
        """Make a child RUNNABLE again, unless it has used up its attempts."""
        if self._numbers[child] >= ATTEMPTS:
            self._failed.append(child)
            self._finish(child)
            return
        yield self._clock.timeout(self._constants.requeue)
        yield self._queue.put(child)

    def _finish(self, child: int) -> None:
        del self._todo[child]
        if not self._todo:
            self._finished.succeed()


def last_store(seconds: float) -> float:
    """Return the time at which a worker has last stored results, ``seconds`` after it began its first element."""
    stored, following = 0.0, FIRST_INTERVAL
    while following <= seconds:
        stored = following
        following += min(LONGEST_INTERVAL, max(FIRST_INTERVAL, following * GROWTH))
    return stored
