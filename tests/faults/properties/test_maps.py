"""Maps of any size, chunk size and failures give the same as ``list(map(...))``. The cloud is embedded."""

import os
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudknot as ck
from tests.faulty_cloud.plan import Faults, Kill
from tests.faulty_cloud.switches import FaultSwitches
from tests.helpers.waiting import LONG

SURVIVED = (("host", "start"), ("host", "stored"), ("host", "end"), ("spot", "start"), ("pull", "start"))
"""Kills (how, when) after which Batch starts another attempt, even without retries."""


class Refused(Exception):
    """The exception that the function raises."""


def behave(element):
    """Square a number, or raise in the way that the element asks for."""
    number, how = element
    if how == "raises" or (how == "raises at first" and os.environ.get("AWS_BATCH_JOB_ATTEMPT") == "1"):
        raise Refused(number)
    return number * number


@dataclass(frozen=True)
class Case:
    """A map with the behaviour of each element, and with the child jobs that are killed or never start."""

    elements: tuple[tuple[int, str], ...]
    chunksize: int
    retries: int
    killed: dict[int, tuple[str, str]]
    dead: frozenset[int]
    errors: float
    seed: int

    def child_of(self, index):
        return index // self.chunksize

    @property
    def faults(self):
        kills = [Kill(how, when, children=(child,)) for child, (how, when) in self.killed.items()]
        kills += [Kill("start", attempts=10, children=(child,)) for child in self.dead]
        return Faults(kills=tuple(kills), errors=self.errors, seed=self.seed)

    def expected(self, index):
        """Return the value or exception of a plain call, or the class of the error if the child job never starts."""
        if self.child_of(index) in self.dead:
            return ck.TaskStartError
        number, how = self.elements[index]
        raises = how == "raises" or (how == "raises at first" and self.retries == 1)
        return Refused(number) if raises else number * number


@st.composite
def cases(draw):
    count, chunksize = draw(st.integers(1, 20)), draw(st.integers(1, 7))
    children = st.integers(0, -(-count // chunksize) - 1)
    killed = draw(st.dictionaries(children, st.sampled_from(SURVIVED), max_size=3))
    dead = draw(st.frozensets(children, max_size=1)) - killed.keys()
    odd = draw(st.dictionaries(st.integers(0, count - 1), st.sampled_from(["raises", "raises at first"]), max_size=4))
    # A killed attempt has number 1 already, so elements of its child job must not depend on that number.
    odd = {index: "raises" if index // chunksize in killed else how for index, how in odd.items()}
    elements = tuple((index + 1, odd.get(index, "")) for index in range(count))
    retries = draw(st.sampled_from([1, 2]))
    errors = draw(st.sampled_from([0.0, 0.2]))
    return Case(elements, chunksize, retries, killed, frozenset(dead), errors, draw(st.integers(0, 99)))


def outcome(future):
    """Return the result or the exception of a future."""
    error = future.exception(LONG)
    return future.result() if error is None else error


def is_as_expected(actual, expected):
    """Return whether an outcome is the expected value, exception or class of error."""
    if isinstance(expected, type):
        return type(actual) is expected
    if isinstance(expected, Refused):
        return type(actual) is Refused and actual.args == expected.args
    return actual == expected


@settings(max_examples=12)
@given(case=cases())
def test_map_under_faults_equals_plain_map(cloud, knot_of, case):
    knot = knot_of(behave, retries=case.retries)
    with FaultSwitches(cloud).on(case.faults):
        future = knot.map(case.elements, chunksize=case.chunksize)
        outcomes = [outcome(element) for element in future]
        expected = [case.expected(index) for index in range(len(case.elements))]
        assert all(map(is_as_expected, outcomes, expected)), (outcomes, expected)
        first = next((error for error in expected if isinstance(error, Refused | type)), None)
        if first is None:
            assert future.result(LONG) == list(map(behave, case.elements)) == expected
        else:
            with pytest.raises(first if isinstance(first, type) else Refused):
                future.result(LONG)
