"""Read a child's inputs by byte ranges: small elements together, large ones alone and unpickled while they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NoReturn, cast

from . import previous_results
from .element import Load
from .s3.limits import SKIP, WINDOW
from .stored_run import StoredRun
from .wire.input_index import OFFSET_SIZE, unpack_entries
from .wire.seal import WRONG_CHECKSUM, DamagedError

LARGE_ALONE = 1024 * 1024
"""Bytes of the largest element that is read into memory first and then unpickled, if it is alone in its window."""


def inputs_of(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """Yield, for each element of ``todo``, a function that returns its input.

    The function raises any exception that unpickling raises, `Unreadable`, or `UnusableError` for a damaged input.
    """
    return previous_results.inputs(run, todo) if run.manifest.source else _read_inputs(run, todo)


def _read_inputs(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """Read stored inputs with as few range requests as `WINDOW` allows."""
    first, stored = todo[0], _offsets(run, todo[0], todo[-1])
    for is_intact, group in _groups(todo, stored):
        if not is_intact:
            yield from [_raise_damaged] * len(group)
            continue
        # Only the offsets of elements of this group are used, and these are intact.
        offsets = cast("Sequence[int]", stored[group[0] - first : group[-1] - first + 2])
        yield from _read_group(run, group, offsets)


def _groups(todo: Sequence[int], offsets: Sequence[int | None]) -> Iterator[tuple[bool, Sequence[int]]]:
    """Yield groups of neighbours in ``todo``, each with whether its offsets are intact."""
    # The usual case, without a look at each element.
    if isinstance(offsets, range):
        yield True, todo
        return
    first, begun, was_intact = todo[0], 0, True
    for position, index in enumerate(todo):
        start, end = offsets[index - first : index - first + 2]
        is_intact = start is not None and end is not None and start < end
        if position > begun and is_intact != was_intact:
            yield was_intact, todo[begun:position]
            begun = position
        was_intact = is_intact
    yield was_intact, todo[begun:]


def _raise_damaged() -> NoReturn:
    raise DamagedError(WRONG_CHECKSUM)


def _read_group(run: StoredRun, todo: Sequence[int], offsets: Sequence[int]) -> Iterator[Load]:
    first = todo[0]
    for window in _windows(todo, offsets):
        start, end = offsets[window[0] - first], offsets[window[-1] - first + 1]
        # A large one is alone, and goes straight to the memory of its objects.
        if len(window) == 1 and end - start > LARGE_ALONE:
            yield partial(run.load, run.keys.inputs, start, end, run.element_seed(window[0]))
        else:
            data = memoryview(run.read(run.keys.inputs, start, end))
            for index in window:
                record = data[offsets[index - first] - start : offsets[index - first + 1] - start]
                yield partial(run.loads, record, run.element_seed(index))


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


def _offsets(run: StoredRun, first: int, last: int) -> Sequence[int | None]:
    """Return the start of each element from ``first`` to ``last``, and the end of the last one; None if damaged."""
    stride = run.manifest.stride
    if stride:
        # Padded inputs need no index, so they save a request. A pickle marks its own end, so padding does no harm.
        return range(first * stride, (last + 2) * stride, stride)
    count = last + 2 - first
    stored = unpack_entries(
        run.read(run.keys.index, first * OFFSET_SIZE, (last + 2) * OFFSET_SIZE), first, run.inputs_seed
    )
    return stored + [None] * (count - len(stored))
