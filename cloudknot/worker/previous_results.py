"""Read inputs that are the results of another run, in order and pack by pack.

The packs are found by listing the outputs of the source run. `wire.pack_order` chooses the pack of each element.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import BinaryIO, NoReturn

from .element import Load, SourceFailed, failure_of
from .s3.client import S3
from .s3.limits import SKIP, WINDOW
from .stored_run import StoredRun
from .wire import by_value
from .wire.container import attempt_number
from .wire.failure import ABSENT, NO_INPUT, RESULT_OF, UNREADABLE, VALUE, Failure, add_note
from .wire.keys import Location, RunKeys
from .wire.manifest import Manifest
from .wire.pack import Origin, Pack
from .wire.pack_order import Choice, Listed, clusters, read_head
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
            # Not as the source of the failure, because that element has an outcome.
            failure = failure_of(UNREADABLE, error)
            raise SourceFailed(UNREADABLE, replace(failure, message=f"{RESULT_OF} {where}, which {error}")) from error

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
            if indices:
                yield from self._read(indices, Choice(cluster))
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
        located = ((keys.parse_output(key), size) for key, size in objects)
        return [
            Listed(location, size)
            for location, size in located
            if location and location.fits(self._manifest.source_count, reach)
        ]

    def _head(self, location: Location) -> Pack:
        """Return the head of a pack, without payloads."""
        read = partial(self._s3.read, self._keys.bucket, self._keys.output(*location))
        return self._pack(read_head(read, location), location)

    def _pack(self, data: bytes, location: Location) -> Pack:
        """Return a pack from its bytes. Raises `UnusableError` if it is not the pack of its key."""
        return Pack(data, Origin(self._keys.run_id, location), self._manifest.source_version)

    def _read(self, indices: Sequence[int], choice: Choice) -> Iterator[Outcome | None]:
        """Yield the outcomes of some elements. Neighbours in one pack are read together."""
        for pack, neighbours in groupby(indices, choice.newest):
            group = list(neighbours)
            for index, outcome in zip(group, self._outcomes_of(pack, group, choice), strict=True):
                yield outcome or self._earlier(index, choice)

    def _outcomes_of(self, pack: Listed | None, indices: list[int], choice: Choice) -> list[Outcome | None]:
        """Return some outcomes of a pack, and its error for all of them if it is damaged."""
        if pack is None:
            return [None] * len(indices)
        try:
            return list(self._outcomes_in(pack, indices, choice))
        except UnusableError as error:
            return [Outcome(VALUE, *[partial(_raise, error)] * 2)] * len(indices)

    def _earlier(self, index: int, choice: Choice) -> Outcome | None:
        """Return the outcome of an element in an earlier round; None without any."""
        outcomes = (outcome for pack in choice.of(index)[1:] for outcome in self._outcomes_of(pack, [index], choice))
        return next(filter(None, outcomes), None)

    def _outcomes_in(self, pack: Listed, indices: list[int], choice: Choice) -> Iterator[Outcome | None]:
        """Yield some outcomes of a pack, or None for an element that it leaves open."""
        bucket, key = self._keys.bucket, self._keys.output(*pack.location)
        # One request reads the whole pack, if it is small or most of its elements are needed. Otherwise one request
        # reads the head and another one all payloads, or each payload by itself if they are large.
        begin = 0
        if pack.size <= SKIP or (pack.size <= WINDOW and 2 * len(indices) > choice.extent(pack)):
            head = self._pack(data := self._s3.read(bucket, key), pack.location)
        else:
            head, data = self._head(pack.location), b""
            stored = [index - pack.location.first for index in indices if index - pack.location.first < len(head)]
            if stored:
                begin, end = head.span(stored[0])[0], head.span(stored[-1])[1]
                data = self._s3.read(bucket, key, begin, end) if end - begin <= WINDOW else b""
        for position in (index - pack.location.first for index in indices):
            if position >= len(head) or head.kinds[position] == ABSENT:
                yield None
                continue
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
