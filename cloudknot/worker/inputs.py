"""Read a child's inputs by byte ranges: small elements together, large ones alone and unpickled while they arrive."""

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
    """Yield, for each element of ``todo``, a function that returns its input.

    The function raises any exception that unpickling raises, or `Unreadable`.
    """
    return previous_results.inputs(run, todo) if run.manifest.source else _read_inputs(run, todo)


def _read_inputs(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """Read stored inputs with as few range requests as `WINDOW` allows."""
    first, offsets = todo[0], _offsets(run, todo[0], todo[-1])
    for window in _windows(todo, offsets):
        start, end = offsets[window[0] - first], offsets[window[-1] - first + 1]
        if end - start > WINDOW:
            yield partial(run.load, run.keys.inputs, start, end)
        else:
            data = memoryview(run.read(run.keys.inputs, start, end))
            for position in (index - first for index in window):
                yield partial(loads, data[offsets[position] - start : offsets[position + 1] - start])


def _windows(todo: Sequence[int], offsets: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield groups of elements to read together. An element larger than a window is alone."""
    first, begun = todo[0], 0
    for position in range(1, len(todo)):
        before, current = todo[position - 1] - first, todo[position] - first
        gap = offsets[current] - offsets[before + 1]
        if gap > SKIP or offsets[current + 1] - offsets[todo[begun] - first] > WINDOW:
            yield todo[begun:position]
            begun = position
    yield todo[begun:]


def _offsets(run: StoredRun, first: int, last: int) -> Sequence[int]:
    """Return the start of each element from ``first`` to ``last``, and the end of the last one."""
    stride = run.manifest.stride
    if stride:
        # Padded inputs need no index, so they save a request. A pickle marks its own end, so padding does no harm.
        return range(first * stride, (last + 2) * stride, stride)
    offsets = array("Q", run.read(run.keys.index, first * OFFSET_SIZE, (last + 2) * OFFSET_SIZE))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets
