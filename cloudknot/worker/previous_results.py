"""Inputs that are the results of another run: found by listing its outputs, read pack by pack, in order.

`wire.pack_order` decides which of several outcomes of an element counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from .element import Load, PassedOn
from .s3.client import S3
from .s3.limits import SKIP, WINDOW
from .stored_run import StoredRun
from .wire.buffers import loads
from .wire.container import attempt_number
from .wire.failure import NO_INPUT, VALUE, Failure, add_note
from .wire.keys import Location, RunKeys
from .wire.manifest import Manifest
from .wire.pack import Pack, head_size
from .wire.pack_order import Listed, choose_packs, clusters


def inputs(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """For each element, what gives its argument; it raises `PassedOn` where there is none."""
    previous = PreviousResults(run.s3, run.manifest)
    if run.manifest.gather:
        yield previous.all
        return
    for index, outcome in zip(todo, previous.outcomes(todo), strict=True):
        yield partial(previous.value, index, outcome)


@dataclass(frozen=True)
class Outcome:
    """How an element ended, and what gives its value, or else the bytes of its `Failure`."""

    kind: int
    value: Load
    failure: Callable[[], bytes]


class PreviousResults:
    """The results of the run that is the source of another one's inputs.

    Parameters
    ----------
    s3 : S3
    manifest : Manifest
        That of the other one.
    """

    def __init__(self, s3: S3, manifest: Manifest) -> None:
        self._s3, self._manifest = s3, manifest
        self._keys = RunKeys.parse(manifest.source)

    def all(self) -> list[object]:
        """Return the list of all results. Raises `PassedOn` with the first failure."""
        every = enumerate(self.outcomes(range(self._manifest.source_count)))
        return [self.value(index, outcome) for index, outcome in every]

    def value(self, index: int, outcome: Outcome | None) -> object:
        """Return the value of an outcome. Raises `PassedOn` without one."""
        where = f"element {index} of the map of {self._keys.knot!r} (job {self._manifest.source_job})"
        attempt = attempt_number(os.environ)
        if outcome is None:
            raise PassedOn(NO_INPUT, Failure(NO_INPUT, "", "", "", source=where, attempt=attempt))
        if outcome.kind != VALUE:
            failure = Failure.from_bytes(outcome.failure())
            raise PassedOn(outcome.kind, replace(failure, source=failure.source or where, attempt=attempt))
        try:
            return outcome.value()
        except Exception as error:
            add_note(error, f"The result of {where} cannot be unpickled here: the image lacks what its class needs.")
            raise

    def outcomes(self, elements: Sequence[int]) -> Iterator[Outcome | None]:
        """Read the outcomes of some elements, which are in rising order; None for one that has none."""
        waiting = iter(elements)
        index = next(waiting, None)
        for cluster in clusters(self._listed(elements[0], elements[-1])):
            end = max(pack.location.first + pack.location.number for pack in cluster)
            wanted: list[int] = []
            while index is not None and index < end:
                wanted.append(index)
                index = next(waiting, None)
            yield from self._read(wanted, choose_packs(cluster, self._kinds) if wanted else {})
        while index is not None:
            yield None
            index = next(waiting, None)

    def _listed(self, first: int, last: int) -> list[Listed]:
        """Return the packs that may have elements from ``first`` to ``last``: none is longer than a chunk."""
        keys, reach = self._keys, self._manifest.source_chunksize
        after, until = keys.output(max(0, first - reach), 0), keys.output(last + 1, 0)
        objects = self._s3.objects(keys.bucket, keys.outputs, after, until)
        return [Listed(keys.parse_output(each["Key"]), each["Size"], each["LastModified"]) for each in objects]

    def _head(self, location: Location) -> Pack:
        """Read the table of a pack, without payloads."""
        return Pack(self._s3.read(self._keys.bucket, self._keys.output(*location), 0, head_size(location.number)))

    def _kinds(self, location: Location) -> Sequence[int]:
        return self._head(location).kinds

    def _read(self, wanted: Sequence[int], found: dict[int, Listed]) -> Iterator[Outcome | None]:
        """Read the outcomes of some elements, of those neighbours together that are in one pack."""
        position = 0
        while position < len(wanted):
            pack = found.get(wanted[position])
            stop = position + 1
            while stop < len(wanted) and found.get(wanted[stop]) is pack:
                stop += 1
            if pack is None:
                yield from [None] * (stop - position)
            else:
                yield from self._outcomes_in(pack, [index - pack.location.first for index in wanted[position:stop]])
            position = stop

    def _outcomes_in(self, pack: Listed, positions: list[int]) -> Iterator[Outcome]:
        """Read some outcomes of a pack.

        A small pack of which most are wanted takes one request. Else one request reads its table, and one more reads
        small payloads together, or one for each large payload.
        """
        bucket, key = self._keys.bucket, self._keys.output(*pack.location)
        if pack.size <= SKIP or (pack.size <= WINDOW and 2 * len(positions) > pack.location.number):
            head = Pack(data := self._s3.read(bucket, key))
            begin = 0
        else:
            head = self._head(pack.location)
            begin, end = head.span(positions[0])[0], head.span(positions[-1])[1]
            data = self._s3.read(bucket, key, begin, end) if end - begin <= WINDOW else b""
        for position in positions:
            start, stop = head.span(position)
            if data:
                payload = data[start - begin : stop - begin]
                yield Outcome(head.kinds[position], partial(loads, payload), partial(bytes, payload))
            else:
                place = bucket, key, start, stop
                yield Outcome(head.kinds[position], partial(self._s3.load, *place), partial(self._s3.read, *place))
