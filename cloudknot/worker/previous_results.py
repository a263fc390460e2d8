"""Read inputs that are the results of another run, in order and pack by pack.

The packs are found by listing the outputs of the source run. `wire.pack_order` decides between several outcomes of an
element.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, NoReturn

from .element import Load, SourceFailed, failure_of
from .s3.client import S3
from .s3.limits import SKIP, WINDOW
from .stored_run import StoredRun
from .wire import by_value
from .wire.container import attempt_number
from .wire.failure import DAMAGED, NO_INPUT, UNREADABLE, VALUE, Failure, add_note
from .wire.keys import Location, RunKeys
from .wire.manifest import Manifest
from .wire.pack import Origin, Pack, head_size
from .wire.pack_order import Listed, choose_packs, clusters
from .wire.seal import UnusableError


def inputs(run: StoredRun, todo: Sequence[int]) -> Iterator[Load]:
    """Yield, for each element, a function that returns its input or raises `SourceFailed`."""
    previous = PreviousResults(run.s3, run.manifest)
    if run.manifest.gather:
        yield previous.all
        return
    for index, outcome in zip(todo, previous.outcomes(todo), strict=True):
        yield partial(previous.value, index, outcome)


@dataclass(frozen=True)
class Outcome:
    """An outcome of the source run: its kind, and functions that return its value or its stored `Failure`."""

    kind: int
    value: Load
    failure: Callable[[], bytes]


class PreviousResults:
    """The results of a source run.

    Parameters
    ----------
    s3 : S3
    manifest : Manifest
        The manifest of the run that takes these results.
    """

    def __init__(self, s3: S3, manifest: Manifest) -> None:
        self._s3, self._manifest = s3, manifest
        self._keys = RunKeys.parse(manifest.source)

    def all(self) -> list[object]:
        """Return the list of all results. Raises `SourceFailed` with the first failure."""
        outcomes = enumerate(self.outcomes(range(self._manifest.source_count)))
        return [self.value(index, outcome) for index, outcome in outcomes]

    def value(self, index: int, outcome: Outcome | None) -> object:
        """Return the value of an outcome. Raises `SourceFailed` if it has none."""
        where = f"element {index} of the map of {self._keys.knot!r} (job {self._manifest.source_job})"
        attempt = attempt_number(os.environ)
        if outcome is None:
            raise SourceFailed(NO_INPUT, Failure(NO_INPUT, "", "", "", source=where, attempt=attempt))
        try:
            return self._value(where, attempt, outcome)
        except UnusableError as error:
            failure = failure_of(UNREADABLE, error)
            raise SourceFailed(UNREADABLE, replace(failure, source=where)) from error

    def _value(self, where: str, attempt: int, outcome: Outcome) -> object:
        if outcome.kind != VALUE:
            failure = Failure.from_bytes(outcome.failure())
            raise SourceFailed(outcome.kind, replace(failure, source=failure.source or where, attempt=attempt))
        try:
            return outcome.value()
        except UnusableError:
            raise
        except Exception as error:
            add_note(
                error,
                f"The result of {where} cannot be unpickled in this job. If the image lacks a package that the result "
                "needs, name it: Knot(..., requirements=[...]).",
            )
            raise

    def outcomes(self, elements: Sequence[int]) -> Iterator[Outcome | None]:
        """Yield the outcomes of some elements in ascending order, or None for an element without one."""
        waiting = iter(elements)
        index = next(waiting, None)
        for cluster in clusters(self._listed(elements[0], elements[-1])):
            end = max(pack.location.first + pack.location.number for pack in cluster)
            indices: list[int] = []
            while index is not None and index < end:
                indices.append(index)
                index = next(waiting, None)
            yield from self._read(indices, choose_packs(cluster, self._kinds) if indices else {})
        while index is not None:
            yield None
            index = next(waiting, None)

    def _listed(self, first: int, last: int) -> list[Listed]:
        """Return the packs that may have elements from ``first`` to ``last``."""
        # A pack is at most one chunk long. So a pack that begins more than a chunk before ``first`` also ends before
        # it.
        keys, reach = self._keys, self._manifest.source_chunksize
        after, until = keys.output(max(0, first - reach), 0), keys.output(last + 1, 0)
        objects = self._s3.objects(keys.bucket, keys.outputs, after, until)
        located = ((keys.parse_output(item["Key"]), item) for item in objects)
        return [
            Listed(location, item["Size"], item["LastModified"])
            for location, item in located
            if location and location.fits(self._manifest.source_count, reach)
        ]

    def _head(self, location: Location) -> Pack:
        """Return the head of a pack, without payloads."""
        head = self._s3.read(self._keys.bucket, self._keys.output(*location), 0, head_size(location.number))
        return self._pack(head, location)

    def _pack(self, data: bytes, location: Location) -> Pack:
        """Return a pack from its bytes. Raises `UnusableError` if it is not the pack of its key."""
        return Pack(data, Origin(self._keys.run_id, location), self._manifest.source_version)

    def _kinds(self, location: Location) -> Sequence[int]:
        try:
            return self._head(location).kinds
        except UnusableError:
            return bytes([DAMAGED]) * location.number

    def _read(self, indices: Sequence[int], packs: dict[int, Listed]) -> Iterator[Outcome | None]:
        """Yield the outcomes of some elements. Neighbours in one pack are read together."""
        position = 0
        while position < len(indices):
            pack = packs.get(indices[position])
            stop = position + 1
            while stop < len(indices) and packs.get(indices[stop]) is pack:
                stop += 1
            if pack is None:
                yield from [None] * (stop - position)
            else:
                positions = [index - pack.location.first for index in indices[position:stop]]
                try:
                    outcomes = list(self._outcomes_in(pack, positions))
                except UnusableError as error:
                    outcomes = [Outcome(VALUE, *[partial(_raise, error)] * 2)] * len(positions)
                yield from outcomes
            position = stop

    def _outcomes_in(self, pack: Listed, positions: list[int]) -> Iterator[Outcome]:
        """Yield some outcomes of a pack."""
        bucket, key = self._keys.bucket, self._keys.output(*pack.location)
        # One request reads the whole pack, if it is small or most of its elements are needed. Otherwise one request
        # reads the head and another one all payloads, or each payload by itself if they are large.
        if pack.size <= SKIP or (pack.size <= WINDOW and 2 * len(positions) > pack.location.number):
            head = self._pack(data := self._s3.read(bucket, key), pack.location)
            begin = 0
        else:
            head = self._head(pack.location)
            begin, end = head.span(positions[0])[0], head.span(positions[-1])[1]
            data = self._s3.read(bucket, key, begin, end) if end - begin <= WINDOW else b""
        for position in positions:
            start, stop = head.span(position)
            place = bucket, key, start, stop
            read = partial(bytes, data[start - begin : stop - begin]) if data else partial(self._s3.read, *place)
            payload = partial(_payload, head, position, read)
            is_stream = not data and (head.is_stream or not head.is_sealed)
            stream, value = partial(self._s3.load, *place, partial(_load, head)), partial(_value, head, payload)
            yield Outcome(head.kinds[position], stream if is_stream else value, payload)


def _payload(head: Pack, position: int, read: Callable[[], bytes]) -> bytes:
    """Return the payload in the record that ``read`` returns."""
    return bytes(head.payload(position, read()))


def _value(head: Pack, payload: Callable[[], bytes]) -> object:
    return by_value.loads(payload(), head.python)


def _load(head: Pack, file: BinaryIO) -> object:
    """Unpickle the payload of a large record from a file at its start."""
    return by_value.load(head.stream(file), head.python)


def _raise(error: Exception) -> NoReturn:
    raise error
