"""A child's part of the inputs, by byte ranges: what is small is read together, what is large as it is unpickled."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import partial

from . import previous_results
from .element import Load
from .s3.limits import SKIP, WINDOW
from .stored_run import StoredRun
from .wire.buffers import loads
from .wire.input_index import OFFSET_SIZE


def inputs_of(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """For each of some elements, in order, what gives it: those stored for the run, or another run's results.

    It raises whatever unpickling the element raises, or `Unreadable`.
    """
    return previous_results.inputs(run, todo) if run.manifest.source else _read_inputs(run, todo)


def _read_inputs(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """Read the inputs of some elements by as few range requests as `WINDOW` allows."""
    first, offsets = todo[0], _offsets(run, todo[0], todo[-1])
    for window in _windows(todo, offsets):
        start, end = offsets[window[0] - first], offsets[window[-1] - first + 1]
        if end - start > WINDOW:
            yield partial(run.load, run.keys.inputs, start, end)
        else:
            data = memoryview(run.read(run.keys.inputs, start, end))
            for at in (index - first for index in window):
                yield partial(loads, data[offsets[at] - start : offsets[at + 1] - start])


def _windows(todo: Sequence[int], offsets: Sequence[int]) -> Iterator[Sequence[int]]:
    """The elements that are read together; one that is larger than a window is alone."""
    first, begun = todo[0], 0
    for position in range(1, len(todo)):
        before, at = todo[position - 1] - first, todo[position] - first
        read_along = offsets[at] - offsets[before + 1]
        if read_along > SKIP or offsets[at + 1] - offsets[todo[begun] - first] > WINDOW:
            yield todo[begun:position]
            begun = position
    yield todo[begun:]


def _offsets(run: StoredRun, first: int, last: int) -> Sequence[int]:
    """Where each element from ``first`` to ``last`` begins, and where the last one ends."""
    stride = run.manifest.stride
    if stride:
        return range(first * stride, (last + 2) * stride, stride)
    offsets = array("Q", run.read(run.keys.index, first * OFFSET_SIZE, (last + 2) * OFFSET_SIZE))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets
