"""A child's part of the inputs, by byte ranges: what is small is read together, what is large as it is unpickled."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from .s3 import client
from .wire.buffers import loads
from .wire.input_index import OFFSET_SIZE
from .wire.keys import RunKeys
from .wire.manifest import Manifest

WINDOW = 8 * 1024 * 1024
"""Bytes that are read together."""
SKIP = 64 * 1024
"""Bytes between two elements that are read along, since another request would take longer."""

Input = Callable[[], Any]
"""Gives the element. Raises what unpickling it raises, or `s3.Unreadable`."""


def read_inputs(keys: RunKeys, manifest: Manifest, todo: Sequence[int]) -> Iterator[Input]:
    """The inputs of some elements, in order, by as few range requests as ``WINDOW`` allows."""
    first, offsets = todo[0], _offsets(keys, manifest, todo[0], todo[-1])
    for window in _windows(todo, offsets):
        start, end = offsets[window[0] - first], offsets[window[-1] - first + 1]
        if end - start > WINDOW:
            yield partial(client.load, keys.bucket, keys.inputs, start, end)
        else:
            data = memoryview(client.read(keys.bucket, keys.inputs, start, end))
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


def _offsets(keys: RunKeys, manifest: Manifest, first: int, last: int) -> Sequence[int]:
    """Where each element from ``first`` to ``last`` begins, and where the last one ends."""
    if manifest.stride:
        return range(first * manifest.stride, (last + 2) * manifest.stride, manifest.stride)
    offsets = array("Q", client.read(keys.bucket, keys.index, first * OFFSET_SIZE, (last + 2) * OFFSET_SIZE))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets
