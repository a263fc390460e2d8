"""The rounds of a run: the map, and what was submitted again of it. Which child of which round an element has.

Children are numbered through all rounds: those of the map first, then those of round 1, and so on. An element belongs
to the last round that runs it; what earlier ones had made of it counts only if it is a value.
"""

from __future__ import annotations

import json
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.run.submit.stored_runs import read_manifest
from cloudknot.run.submit.submit_job import Submission, read_record
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws import Cloud


class StoredChoices(TypedDict, total=False):
    """The choices that a round was submitted with. They are stored in its manifest, for whoever submits the next one.

    ``base`` is the MiB that jobs had before memory was first made to grow. ``depends_on`` has one list for each
    SubmitJob call.
    """

    overrides: dict[str, int | None]
    env_vars: Sequence[tuple[str, str]]
    tags: dict[str, str]
    depends_on: list[list[JobDependencyTypeDef]]
    chunksize_unasked: bool
    base: int


@dataclass(frozen=True, eq=False)
class Round:
    """One submission of a run: its sorted elements, in children of ``chunksize``, the first one numbered ``start``.

    ``stored_choices`` is what else was stored of it: the choices it was submitted with.
    """

    submission: Submission
    elements: Sequence[int]
    start: int
    record: Record
    stored_choices: StoredChoices

    @property
    def number(self) -> int:
        return self.submission.round

    @property
    def chunksize(self) -> int:
        return self.submission.manifest.chunksize

    @property
    def children(self) -> int:
        return self.submission.manifest.children

    @property
    def job_ids(self) -> list[str | None]:
        """The Batch job, or the independent ones; None for one that was not submitted."""
        ids = list(self.record["job_ids"])
        return ids + [None] * (self.submission.jobs - len(ids))

    @property
    def submitted_ids(self) -> list[str]:
        """`job_ids`, without jobs that were not submitted."""
        return [job_id for job_id in self.job_ids if job_id]

    def child_id(self, child: int) -> str | None:
        """Batch's id of a child."""
        first = self.job_ids[0]
        if self.submission.manifest.job_type == "independent":
            return self.job_ids[child - self.start]
        return f"{first}:{child - self.start}" if self.children > 1 else first

    def position(self, element: int) -> int | None:
        """Where an element is in the round; None if it is not."""
        found = bisect_left(self.elements, element)
        return found if found < len(self.elements) and self.elements[found] == element else None

    def chunk_bounds(self, position: int) -> tuple[int, int]:
        """The positions at which the child begins and ends that has the element at a position."""
        first = position - position % self.chunksize
        return first, min(first + self.chunksize, len(self.elements))

    def contiguous_range(self, position: int) -> range:
        """The consecutive elements around a position, within its child."""
        first, last = self.chunk_bounds(position)
        offset = self.elements[position] - position

        def start(each: int) -> int:
            return self.elements[each] - each

        begin = first + bisect_left(range(first, last), offset, key=start)
        end = first + bisect_right(range(first, last), offset, key=start)
        return range(self.elements[begin], self.elements[end - 1] + 1)


class Rounds:
    """The rounds of one run, the first one first. Rounds are added at the end; nothing else changes."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = list(rounds)

    def __iter__(self) -> Iterator[Round]:
        return iter(self._rounds)

    @property
    def first(self) -> Round:
        return self._rounds[0]

    @property
    def newest(self) -> Round:
        return self._rounds[-1]

    @property
    def children(self) -> int:
        """How many children there are in all rounds."""
        return self.newest.start + self.newest.children

    def add(self, newer: Round) -> None:
        """Put a round at the end."""
        self._rounds.append(newer)

    def round_of_child(self, child: int) -> Round:
        """The round of a child."""
        return next(each for each in reversed(self._rounds) if each.start <= child)

    def locate(self, element: int, up_to: int | None = None) -> tuple[Round, int]:
        """The last round that has an element, or the last one up to a number, and its position there."""
        for each in reversed(self._rounds):
            position = each.position(element)
            if position is not None and (up_to is None or each.number <= up_to):
                return each, position
        raise IndexError(element)

    def children_of(self, element: int) -> list[int]:
        """The children that have an element, in all of its rounds."""
        positions = ((each, each.position(element)) for each in self._rounds)
        return [each.start + found // each.chunksize for each, found in positions if found is not None]

    def span_of(self, element: int) -> tuple[int, int]:
        """The child that has an element, and the end of the consecutive elements from it on that it has, too."""
        found, position = self.locate(element)
        stop = found.contiguous_range(position).stop
        for later in (each for each in self._rounds if each.number > found.number):
            after = bisect_left(later.elements, element)
            if after < len(later.elements):
                stop = min(stop, later.elements[after])
        return found.start + position // found.chunksize, stop

    def spans(self, child: int) -> Iterator[range]:
        """The elements of a child that no later round has, as consecutive ones."""
        found = self.round_of_child(child)
        position, last = found.chunk_bounds((child - found.start) * found.chunksize)
        while position < last:
            element = found.elements[position]
            owner, stop = self.span_of(element)
            if owner == child:
                yield range(element, stop)
            position = (
                bisect_left(found.elements, max(stop, element + 1), position) if owner == child else position + 1
            )

    def first_pack_start(self, element: int) -> int:
        """The lowest element with which a pack may begin that has an element."""
        positions = ((each, each.position(element)) for each in self._rounds)
        return min(each.contiguous_range(position).start for each, position in positions if position is not None)

    def is_superseded(self, round: int, element: int) -> bool:
        """Whether a failure of an element, stored in a round, does not count, because a later round runs it."""
        return self.locate(element)[0].number > round


@dataclass(frozen=True, eq=False)
class Run:
    """A submitted map: where its objects are, its manifest, and its rounds as far as this session knows."""

    keys: RunKeys
    manifest: Manifest
    rounds: Rounds

    @classmethod
    def of(cls, first: Round) -> Run:
        """Return the run that has just been submitted with this round."""
        return cls(first.submission.keys, first.submission.manifest, Rounds([first]))

    @property
    def job_id(self) -> str:
        """Batch's id of the map's first job."""
        return self.rounds.first.submitted_ids[0]

    @property
    def retried(self) -> bool:
        """Whether failed elements were submitted again."""
        return self.rounds.newest.number > 0

    @property
    def newest_job_ids(self) -> list[str]:
        """Batch's ids of the jobs of the newest round, without jobs that were not submitted."""
        return self.rounds.newest.submitted_ids

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of its jobs."""
        return self.rounds.first.stored_choices.get("tags") or {}


def open_run(cloud: Cloud, keys: RunKeys, job_id: str, record: Record | None = None) -> Run:
    """Read a run, with the first of its rounds. Its record is not read when it is given.

    Raises
    ------
    ResourceDoesNotExistException
        The run was deleted, or never submitted. The error names the job.
    """
    stored = read_manifest(cloud, keys, job_id)
    submission = Submission(keys, Manifest.from_json(stored))
    record = record or read_record(cloud, submission)
    if record is None:
        raise ResourceDoesNotExistException(f"The run {keys.url} was not submitted.")
    return Run.of(first_round(submission, record, json.loads(stored)))


def first_round(submission: Submission, record: Record, stored_choices: StoredChoices) -> Round:
    """The map itself."""
    return Round(submission, range(submission.manifest.count), 0, record, stored_choices)


def later_rounds(cloud: Cloud, keys: RunKeys, after: Round) -> Iterator[Round]:
    """The rounds of a run that were submitted after one that is known. Costs a listing when there are none."""
    last = after
    numbers = sorted(keys.round_of(key) for key in cloud.storage.keys(keys.rounds))
    for number in (number for number in numbers if number > after.number):
        stored = cloud.storage.get(keys.round(number))
        submission = Submission(keys, Manifest.from_json(stored), number)
        record = read_record(cloud, submission)
        if record is not None:
            elements = decode_elements(cloud.storage.get(keys.todo(number)))
            last = Round(submission, elements, last.start + last.children, record, json.loads(stored))
            yield last


def round_manifest(manifest: Manifest, number: int, elements: int, chunksize: int, retries: int | None) -> Manifest:
    """The manifest of a round of ``elements`` elements, after that of another one: of an array, or a plain job."""
    return replace(
        manifest,
        round=number,
        todo=elements,
        chunksize=chunksize,
        job_type="array",
        attempts=retries or manifest.attempts,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def encode_elements(elements: Sequence[int]) -> bytes:
    """Indices as they are stored: 8 bytes each, little endian."""
    return _little_endian(array("Q", elements)).tobytes()


def decode_elements(data: bytes) -> Sequence[int]:
    """What `encode_elements` made."""
    elements = array("Q")
    elements.frombytes(data)
    return _little_endian(elements)


def _little_endian(elements: array[int]) -> array[int]:
    if sys.byteorder == "big":
        elements.byteswap()
    return elements
