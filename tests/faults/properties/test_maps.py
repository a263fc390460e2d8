"""Any sizes, chunk sizes and failures, on the embedded cloud, against a plain ``list(map(...))``."""

import os
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudknot as ck
from cloudknot.local import Faults, FaultSwitches, Kill
from tests.helpers.waiting import LONG

SURVIVED = (("host", "start"), ("host", "stored"), ("host", "end"), ("spot", "start"), ("pull", "start"))
"""Ways to be killed after which Batch tries again, whatever the user's own attempts."""


class Refused(Exception):
    """What the function raises."""


def behave(element):
    number, how = element
    if how == "raises" or (how == "raises at first" and os.environ.get("AWS_BATCH_JOB_ATTEMPT") == "1"):
        raise Refused(number)
    return number * number


@dataclass(frozen=True)
class Case:
    """A map: what each element does, and which children are killed in which way (or never started)."""

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
        """What a plain call gives, or the class of the error where the child never ran."""
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
    # An attempt that was killed counts as the first one, so in its child nothing goes by the attempt's number.
    odd = {index: "raises" if index // chunksize in killed else how for index, how in odd.items()}
    elements = tuple((index + 1, odd.get(index, "")) for index in range(count))
    retries = draw(st.sampled_from([1, 2]))
    errors = draw(st.sampled_from([0.0, 0.2]))
    return Case(elements, chunksize, retries, killed, frozenset(dead), errors, draw(st.integers(0, 99)))


def outcome(future):
    error = future.exception(LONG)
    return future.result() if error is None else error


def same(found, expected):
    if isinstance(expected, type):
        return type(found) is expected
    if isinstance(expected, Refused):
        return type(found) is Refused and found.args == expected.args
    return found == expected


@settings(max_examples=12)
@given(case=cases())
def test_a_map_is_a_plain_map_whatever_fails(cloud, knot_of, case):
    knot = knot_of(behave, retries=case.retries)
    with FaultSwitches(cloud).on(case.faults):
        future = knot.map(case.elements, chunksize=case.chunksize)
        outcomes = [outcome(element) for element in future]
        expected = [case.expected(index) for index in range(len(case.elements))]
        assert all(map(same, outcomes, expected)), (outcomes, expected)
        first = next((each for each in expected if isinstance(each, Refused | type)), None)
        if first is None:
            assert future.result(LONG) == list(map(behave, case.elements)) == expected
        else:
            with pytest.raises(first if isinstance(first, type) else Refused):
                future.result(LONG)
