"""A child's part of the inputs, by byte ranges: what is small is read together, what is large as it is unpickled."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from . import s3
from .buffers import loads
from .protocol import OFFSET_SIZE, Manifest, RunKeys

WINDOW = 8 * 1024 * 1024
"""Bytes that are read together."""
SKIP = 64 * 1024
"""Bytes between two elements that are read along, since another request would take longer."""

Input = Callable[[], Any]
"""Gives the element. Raises what unpickling it raises, or `s3.Unreadable`."""


def read_inputs(keys: RunKeys, manifest: Manifest, todo: Sequence[int]) -> Iterator[Input]:
    """The inputs of some elements, in order, by as few range requests as ``WINDOW`` allows."""
    first = todo[0]
    offsets = _offsets(keys, manifest, first, todo[-1])
    spans = [(offsets[index - first], offsets[index - first + 1]) for index in todo]
    at = 0
    while at < len(spans):
        stop = _end_of_window(spans, at)
        start, end = spans[at][0], spans[stop - 1][1]
        if end - start > WINDOW:
            yield partial(s3.load, keys.bucket, keys.inputs, start, end)
        else:
            data = memoryview(s3.read(keys.bucket, keys.inputs, start, end))
            for begin, finish in spans[at:stop]:
                yield partial(loads, data[begin - start : finish - start])
        at = stop


def _end_of_window(spans: Sequence[tuple[int, int]], at: int) -> int:
    """The end of the spans that are read together, one at least."""
    start, end = spans[at]
    for stop in range(at + 1, len(spans)):
        begin, finish = spans[stop]
        if begin - end > SKIP or finish - start > WINDOW:
            return stop
        end = finish
    return len(spans)


def _offsets(keys: RunKeys, manifest: Manifest, first: int, last: int) -> Sequence[int]:
    """Where each element from ``first`` to ``last`` begins, and where the last one ends."""
    if manifest.stride:
        return range(first * manifest.stride, (last + 2) * manifest.stride, manifest.stride)
    offsets = array("Q", s3.read(keys.bucket, keys.index, first * OFFSET_SIZE, (last + 2) * OFFSET_SIZE))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets
