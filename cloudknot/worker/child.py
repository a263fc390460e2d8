"""Run one child job: call the function for each element of its chunk, and store the outcomes."""

from __future__ import annotations

import sys
from typing import NoReturn

from . import element
from .attempts import Attempts
from .function import function_of
from .inputs import inputs_of
from .program.load import Function
from .program.seeds import set_element
from .results import ResultWriter, stored_kinds
from .stored_run import StoredRun
from .wire.buffers import Unreadable
from .wire.input_index import OFFSET_SIZE, unpack_entries
from .wire.pack import Envelope
from .wire.pack_order import Gaps


def run_child(run: StoredRun, child: int, attempts: Attempts) -> int:
    """Run the elements of one child that have no stored result yet. Return the exit code.

    An element that raises does not stop the others.
    """
    elements = _elements(run, child)
    gaps = Gaps(elements)
    if attempts.number > 1:
        _fill(run, gaps, elements)
    todo = gaps.elements()
    if not todo:
        return 0
    function, not_loaded = _load(run)
    failed = 0
    with ResultWriter(run, gaps) as results:
        for index, load in zip(todo, inputs_of(run, todo), strict=True):
            if not results.needs(index):
                # Another attempt runs at the same time, and has stored an outcome.
                continue
            set_element(index)
            outcome = not_loaded or element.run_element(function, load, run.manifest.starmap)
            failed += not outcome.ok
            # Only the last attempt stores failures. A failure of an earlier one would end the element's
            # future before the next attempt.
            if outcome.ok or attempts.last:
                results.add(index, outcome, last=index == todo[-1])
            element.stop_signal.check()
            # A large outcome would otherwise stay in memory until the next one replaces it.
            del outcome
    set_element(None)
    return 1 if failed else 0


def _load(run: StoredRun) -> tuple[Function, Envelope | None]:
    """Return the function. If it cannot be loaded, also return the outcome of every element."""
    try:
        return function_of(run), None
    except (element.Stopped, Unreadable):
        raise
    except BaseException as error:
        element.stop_signal.check()
        print(f"The program could not be loaded: {error!r}", file=sys.stderr)
        return _unloaded, element.not_loaded(error)


def _unloaded(*arguments: object) -> NoReturn:
    raise RuntimeError("the program could not be loaded")


def _elements(run: StoredRun, child: int) -> list[int]:
    """Return the elements of a child: a chunk of the input, or of the elements of a later round."""
    manifest = run.manifest
    if not manifest.round:
        return list(manifest.chunk(child))
    first = child * manifest.chunksize
    end = min(first + manifest.chunksize, manifest.todo)
    stored = run.read(run.keys.todo(manifest.round), first * OFFSET_SIZE, end * OFFSET_SIZE)
    elements = [index for index in unpack_entries(stored, first, run.todo_seed) if index is not None]
    if len(elements) < end - first:
        print(
            f"{end - first - len(elements)} elements of this job do not run: their list is damaged.", file=sys.stderr
        )
    return elements


def _fill(run: StoredRun, gaps: Gaps, elements: list[int]) -> None:
    """Fill the gaps of a child with the packs that earlier attempts have stored."""
    keys = run.keys
    after, until = keys.output(elements[0], 0), keys.output(elements[-1] + 1, 0)
    for key in run.s3.keys(keys.bucket, keys.outputs, after, until):
        location = keys.parse_output(key)
        # Outcomes from an earlier round are failures, or this round would not run these elements again.
        if location and location.round == run.manifest.round and location.number <= run.manifest.chunksize:
            gaps.fill(location, stored_kinds(run, location))
