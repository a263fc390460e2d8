"""Inputs that are the results of another run: found by listing its outputs, read pack by pack, in order.

`wire.pack_order` decides which of several outcomes of an element counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from .element import PassedOn
from .s3 import client
from .wire.buffers import loads
from .wire.container import attempt_number
from .wire.envelope import NO_INPUT, VALUE, Failure, Pack, add_note, head_size
from .wire.keys import Location, RunKeys
from .wire.manifest import Manifest
from .wire.pack_order import Listed, clusters, counting

WHOLE = 8 * 1024 * 1024
"""Bytes that are read with one request."""
LITTLE = 64 * 1024
"""Bytes of a pack that is read whole, also where little of it is needed: another request takes longer."""


class Outcome(NamedTuple):
    """How an element ended, and what gives its value, or else the bytes of its `Failure`."""

    kind: int
    get: Callable[[], Any]


def inputs(manifest: Manifest, todo: Sequence[int]) -> Iterator[Callable[[], Any]]:
    """For each element, what gives its argument; it raises `PassedOn` where there is none."""
    run = RunKeys.parse(manifest.source)
    if manifest.gather:
        yield partial(_gathered, manifest, run)
        return
    for index, outcome in zip(todo, outcomes(run, manifest.source_chunksize, todo), strict=True):
        yield partial(_value, outcome, _described(manifest, run, index))


def _described(manifest: Manifest, run: RunKeys, index: int) -> str:
    return f"element {index} of the map of {run.knot!r} (job {manifest.source_job})"


def _gathered(manifest: Manifest, run: RunKeys) -> list[Any]:
    """The list of all results. Raises `PassedOn` with the first failure."""
    every = enumerate(outcomes(run, manifest.source_chunksize, range(manifest.source_count)))
    return [_value(outcome, _described(manifest, run, index)) for index, outcome in every]


def _value(outcome: Outcome | None, where: str) -> Any:
    attempt = attempt_number(os.environ)
    if outcome is None:
        raise PassedOn(NO_INPUT, Failure(NO_INPUT, "", "", "", source=where, attempt=attempt))
    if outcome.kind != VALUE:
        failure = Failure.from_bytes(outcome.get())
        raise PassedOn(outcome.kind, replace(failure, source=failure.source or where, attempt=attempt))
    try:
        return outcome.get()
    except Exception as error:
        add_note(error, f"The result of {where} cannot be unpickled here: the image lacks what its class needs.")
        raise


def outcomes(run: RunKeys, reach: int, elements: Sequence[int]) -> Iterator[Outcome | None]:
    """The outcomes of some elements of a run, in order; None for one that has none.

    Parameters
    ----------
    run : RunKeys
    reach : int
        How many elements a pack has at most.
    elements : sequence of int
        In rising order.
    """
    waiting = iter(elements)
    index = next(waiting, None)
    for cluster in clusters(_listed(run, reach, elements[0], elements[-1])):
        end = max(pack.location.first + pack.location.number for pack in cluster)
        wanted: list[int] = []
        while index is not None and index < end:
            wanted.append(index)
            index = next(waiting, None)
        yield from _read(run, wanted, counting(cluster, partial(_kinds, run)) if wanted else {})
    while index is not None:
        yield None
        index = next(waiting, None)


def _listed(run: RunKeys, reach: int, first: int, last: int) -> list[Listed]:
    """The packs that may have elements from ``first`` to ``last``."""
    after, until = run.output(max(0, first - reach), 0), run.output(last + 1, 0)
    objects = client.objects(run.bucket, run.outputs, after, until)
    return [Listed(run.parse_output(each["Key"]), each["Size"], each["LastModified"]) for each in objects]


def _head(run: RunKeys, location: Location) -> Pack:
    """The table of a pack, without payloads."""
    return Pack(client.read(run.bucket, run.output(*location), 0, head_size(location.number)))


def _kinds(run: RunKeys, location: Location) -> Sequence[int]:
    return _head(run, location).kinds


def _read(run: RunKeys, wanted: Sequence[int], found: dict[int, Listed]) -> Iterator[Outcome | None]:
    """The outcomes of some elements, of those neighbours together that are in one pack."""
    position = 0
    while position < len(wanted):
        pack = found.get(wanted[position])
        stop = position + 1
        while stop < len(wanted) and found.get(wanted[stop]) is pack:
            stop += 1
        if pack is None:
            yield from [None] * (stop - position)
        else:
            yield from _outcomes_in(run, pack, [index - pack.location.first for index in wanted[position:stop]])
        position = stop


def _outcomes_in(run: RunKeys, pack: Listed, positions: list[int]) -> Iterator[Outcome]:
    """Some outcomes of a pack: by one request for a small one of which most are wanted, else by one for its table, and
    one more for small payloads together, or one for each large payload."""
    key = run.output(*pack.location)
    if pack.size <= LITTLE or (pack.size <= WHOLE and 2 * len(positions) > pack.location.number):
        head = Pack(data := client.read(run.bucket, key))
        begin = 0
    else:
        head = _head(run, pack.location)
        begin, end = head.span(positions[0])[0], head.span(positions[-1])[1]
        data = client.read(run.bucket, key, begin, end) if end - begin <= WHOLE else b""
    for position in positions:
        kind, (start, stop) = head.kinds[position], head.span(position)
        if data:
            get: Callable[[], Any] = partial(loads if kind == VALUE else bytes, data[start - begin : stop - begin])
        else:
            get = partial(client.load if kind == VALUE else client.read, run.bucket, key, start, stop)
        yield Outcome(kind, get)
