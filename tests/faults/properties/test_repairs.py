"""Retries, maps of maps and `reduce`, with any chunks and failures, give the same as ``list(map(...))``."""

import functools
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import cloudknot as ck
from tests.faulty_cloud.plan import Faults, Kill
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.waiting import LONG, until

FEW = settings(
    max_examples=6,
    phases=(Phase.generate,),  # No shrinking: each repetition takes seconds.
)
SURVIVED = (("host", "start"), ("host", "stored"), ("host", "end"), ("spot", "start"), ("pull", "start"))


class Refused(Exception):
    """The exception that the function raises."""


def step(folder, number, refusals, plus=0):
    """Record the call, and return the square of a number if the folder has enough repairs. Wait for the gate first."""
    while not os.path.exists(os.path.join(folder, "gate")):
        time.sleep(0.02)
    with open(os.path.join(folder, "calls"), "a") as file:
        file.write(f"{number}\n")
    if len([name for name in os.listdir(folder) if name.startswith("repair")]) < refusals:
        raise Refused(number)
    return number * number + plus


def halve(number, plus=0):
    return number / 2 + plus


@dataclass(frozen=True)
class Elements:
    """The number of repairs that each element needs to succeed, and the keyword arguments of all calls."""

    refusals: tuple[int, ...]
    kwargs: dict[str, int]

    def inputs(self, folder):
        return [(folder, number, refusals) for number, refusals in enumerate(self.refusals)]

    def failing(self, repairs=0):
        """Return the indices of elements that still fail after a number of repairs."""
        return {index for index, refusals in enumerate(self.refusals) if refusals > repairs}

    @property
    def values(self):
        return [number * number + self.kwargs.get("plus", 0) for number in range(len(self.refusals))]


def elements(most):
    """Return a strategy for elements that need up to ``most`` repairs."""
    refusals = st.lists(st.sampled_from([0, 0, *range(most + 1)]), min_size=1, max_size=12).map(tuple)
    return st.builds(Elements, refusals, st.sampled_from([{}, {"plus": 7}]))


def repair(folder):
    """Add one repair to the folder."""
    os.close(tempfile.mkstemp(prefix="repair", dir=folder)[0])


def error_classes(future):
    """Return the class of each element's error, or None for an element with a value."""
    return [type(error) if (error := element.exception(LONG)) else None for element in future]


@dataclass(frozen=True)
class Repaired:
    """A map, the chunk sizes of its retries, and the faults in each round: killed child jobs, errors of S3."""

    elements: Elements
    choices: dict[str, object]
    chunksizes: tuple[int | None, ...]
    killed: dict[int, tuple[str, str]]
    errors: float

    @property
    def faults(self):
        kills = tuple(Kill(how, when, children=(child,)) for child, (how, when) in self.killed.items())
        return Faults(kills=kills, errors=self.errors)


chunks = st.integers(1, 5)
repaired = st.builds(
    Repaired,
    elements(3),
    st.one_of(chunks.map(lambda size: {"chunksize": size}), st.just({"job_type": "independent"})),
    st.tuples(*[st.none() | chunks] * 3),
    st.dictionaries(st.integers(0, 3), st.sampled_from(SURVIVED), max_size=2),
    st.sampled_from([0.0, 0.2]),
)


@FEW
@given(case=repaired)
def test_map_with_retries_equals_plain_map(cloud, knot_of, case):
    """Each round runs only failed elements, and elements with a value keep it."""
    with tempfile.TemporaryDirectory() as folder, FaultSwitches(cloud).on(case.faults):
        Path(folder, "gate").touch()
        inputs = case.elements.inputs(folder)
        future = knot_of(step).map(inputs, starmap=True, kwargs=case.elements.kwargs, **case.choices)
        for repairs, chunksize in enumerate(case.chunksizes):
            failing = case.elements.failing(repairs)
            assert error_classes(future) == [Refused if index in failing else None for index in range(len(inputs))]
            repair(folder)
            future = future.retry_failed(chunksize=chunksize)
        assert future.result(LONG) == case.elements.values
        assert future.job.result(LONG) == ck.BatchJob(future.job.job_id, cloud=cloud).result(LONG) == future.result()
        calls = Counter(map(int, Path(folder, "calls").read_text().split()))
        for index, refusals in enumerate(case.elements.refusals):
            # The function is called again for killed elements whose result was not stored.
            assert calls[index] == refusals + 1 or (case.killed and calls[index] > refusals)


@dataclass(frozen=True)
class Chain:
    """A map of another map's results: with the same or other chunks, submitted before or after the first one ends."""

    elements: Elements
    chunksize: int
    other_chunksize: int | None
    while_it_runs: bool
    kwargs: dict[str, int]

    @property
    def values(self):
        return list(map(functools.partial(halve, **self.kwargs), self.elements.values))

    @property
    def expected(self):
        """The class of each element's error in the second map, or None for an element with a value."""
        failing, count = self.elements.failing(), len(self.elements.refusals)
        if not self.while_it_runs:
            return [Refused if index in failing else None for index in range(count)]
        child_by_child = self.other_chunksize in (None, self.chunksize) and count > self.chunksize
        lost = {index // self.chunksize for index in failing} if child_by_child else set()
        all_lost = bool(failing) and not child_by_child
        return [
            ck.DependencyFailedError if all_lost or index // self.chunksize in lost else None for index in range(count)
        ]


chains = st.builds(Chain, elements(1), chunks, st.none() | chunks, st.booleans(), st.sampled_from([{}, {"plus": 3}]))


@FEW
@given(case=chains)
def test_map_of_map_and_its_reduce_equal_plain_maps(knot_of, case):
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder, "gate")
        first = knot_of(step).map(
            case.elements.inputs(folder),
            starmap=True,
            kwargs=case.elements.kwargs,
            chunksize=case.chunksize,
        )
        if not case.while_it_runs:
            gate.touch()
            until(lambda: first.job.status in ("SUCCEEDED", "FAILED"))
        second = knot_of(halve).map(first, chunksize=case.other_chunksize, kwargs=case.kwargs)
        third = second.reduce(sum)
        gate.touch()
        failing = case.elements.failing()
        assert error_classes(first) == [Refused if index in failing else None for index in range(len(first))]
        assert error_classes(second) == case.expected
        assert (third.exception(LONG) is not None) == bool(failing)
        repair(folder)
        assert first.retry_failed().result(LONG) == case.elements.values
        assert second.retry_failed().result(LONG) == case.values
        assert third.retry_failed().result(LONG) == sum(case.values)
