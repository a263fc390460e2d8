"""Outcomes of a map for any order of packs and failures, compared with plain calls; with a fake job in memory."""

import itertools
from dataclasses import dataclass
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudknot.errors import BatchJobFailedError, CloudError, OutOfMemoryError
from cloudknot.worker.element import run_element
from cloudknot.worker.wire.keys import Location
from tests.helpers.waiting import until
from tests.unit.run.collect.fake_job import LONG, FakeJob, future_of

OUT_OF_MEMORY = {
    "status": "FAILED",
    "attempts": [{"container": {"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"}}],
}


class Refused(Exception):
    """The exception of the function."""


@dataclass(frozen=True)
class Case:
    """A course of a map: its packs in the order of their storage, and its dead children.

    The first ``at_first`` packs exist before the collector starts. With ``silent``, the cloud fails for a while.
    """

    count: int
    chunksize: int
    raising: frozenset[int]
    dead: frozenset[int]
    packs: tuple[tuple[int, int], ...]
    at_first: int
    silent: bool

    def behave(self, index):
        if index in self.raising:
            raise Refused(index)
        return index * index

    def chunk(self, child):
        return range(child * self.chunksize, min(self.count, (child + 1) * self.chunksize))


@st.composite
def cases(draw):
    count, chunksize = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    children = range(-(-count // chunksize))
    dead = draw(st.frozensets(st.sampled_from(children), max_size=2))
    raising = draw(st.frozensets(st.integers(0, count - 1), max_size=4))
    packs = []
    for child in children:
        chunk = range(child * chunksize, min(count, (child + 1) * chunksize))
        # A dead child stored none or some of its first elements.
        end = draw(st.integers(chunk.start, chunk.stop - 1)) if child in dead else chunk.stop
        cuts = sorted(
            draw(st.sets(st.integers(chunk.start + 1, end - 1), max_size=3)) if end - chunk.start > 1 else []
        )
        edges = [chunk.start, *cuts, end] if end > chunk.start else []
        packs += [(first, last - first) for first, last in itertools.pairwise(edges)]
    packs = draw(st.permutations(packs))
    at_first = draw(st.integers(0, len(packs)))
    return Case(count, chunksize, raising, dead, tuple(packs), at_first, draw(st.booleans()))


def store(job, case, packs):
    """Store packs as workers do: outcomes of consecutive elements in one object."""
    for first, number in packs:
        envelopes = [run_element(case.behave, partial(int, index), False) for index in range(first, first + number)]
        job.store(Location(first, number), *envelopes)


@settings(max_examples=settings().max_examples * 2)
@given(cases())
def test_element_ends_as_plain_call_does_or_dies_with_its_child(case):
    job = FakeJob(case.behave, range(case.count), case.chunksize)
    job.patience = LONG
    store(job, case, case.packs[: case.at_first])
    future = future_of(job, max_threads=2)
    if case.silent:
        polls, job.silence = job.polls, CloudError("no answer")
        until(lambda: job.polls > polls or future.done())
    store(job, case, case.packs[case.at_first :])
    for child in case.dead:
        job.end(child, **OUT_OF_MEMORY)
    job.over, job.silence = True, None
    lost = {index for child in case.dead for index in case.chunk(child)}
    lost -= {index for first, number in case.packs for index in range(first, first + number)}
    for index, element in enumerate(future):
        error = element.exception(LONG)
        if index in lost:
            assert type(error) is OutOfMemoryError
            assert error.index == index
        elif index in case.raising:
            assert type(error) is Refused
            assert error.args == (index,)
        else:
            assert (error, element.result()) == (None, index * index)
    failed = sorted(lost | case.raising)
    if not failed:
        assert future.result(LONG) == list(map(case.behave, range(case.count)))
    else:
        error = future.exception(LONG)
        assert isinstance(error, BatchJobFailedError | Refused)
        assert (error.args[0] if isinstance(error, Refused) else error.index) == failed[0]
