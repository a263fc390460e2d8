"""Rounds: the map and its retries, and the child job that owns each element.

Children are numbered through all rounds: those of the map first, then those of round 1, and so on. An element belongs
to the last round that runs it. From earlier rounds only a value of it counts, not a failure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import lt
from typing import TYPE_CHECKING, TypedDict

from cloudknot.errors import ResourceDoesNotExistException, StoredDataError
from cloudknot.run.submit.stored_documents import checked, parse_fields, parse_manifest
from cloudknot.run.submit.stored_runs import read_manifest
from cloudknot.run.submit.submit_job import Submission, read_record
from cloudknot.worker.wire.input_index import pack_entry, pack_old_entries, unpack_entries
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record, submission_record, todo_seed
from cloudknot.worker.wire.seal import WRONG_CHECKSUM, DamagedError

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws import Cloud


class StoredChoices(TypedDict, total=False):
    """The choices for a round, stored in its manifest so that any session can submit the next round.

    ``base`` is the memory of the jobs in MiB before it first grew. ``depends_on`` has one list for each SubmitJob
    request. Only the map stores ``keywords``, the names in ``kwargs``, and ``lengths``, the least and the largest
    number of arguments of an element with ``starmap``. The names are those in S3.
    """

    overrides: dict[str, int | None]
    env_vars: Sequence[tuple[str, str]]
    tags: dict[str, str]
    depends_on: list[list[JobDependencyTypeDef]]
    chunksize_unasked: bool
    base: int
    keywords: list[str]
    lengths: list[int]


@dataclass(frozen=True, eq=False)
class Round:
    """One submission of a run.

    Attributes
    ----------
    submission : Submission
    elements : sequence of int
        Sorted indices of its elements. Each child has ``chunksize`` of them.
    start : int
        The number of its first child.
    record : Record
    stored_choices : StoredChoices
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
        """The id of its Batch job, or of each independent job; None for a job that was not submitted."""
        ids = list(self.record["job_ids"])
        # The record of a session that was killed holds only the first jobs.
        return ids + [None] * (self.submission.jobs - len(ids))

    @property
    def submitted_ids(self) -> list[str]:
        """The ids of the submitted jobs."""
        return [job_id for job_id in self.job_ids if job_id]

    def child_id(self, child: int) -> str | None:
        """Return the id of a child in Batch; None if it was not submitted."""
        first = self.job_ids[0]
        if self.submission.manifest.job_type == "independent":
            return self.job_ids[child - self.start]
        return f"{first}:{child - self.start}" if self.children > 1 else first

    def position(self, element: int) -> int | None:
        """Return the position of an element in this round; None if the round does not run it."""
        position = bisect_left(self.elements, element)
        return position if position < len(self.elements) and self.elements[position] == element else None

    def chunk_bounds(self, position: int) -> tuple[int, int]:
        """Return the positions at which the chunk around ``position`` begins and ends."""
        first = position - position % self.chunksize
        return first, min(first + self.chunksize, len(self.elements))

    def contiguous_range(self, position: int) -> range:
        """Return the range of consecutive elements around ``position``, within its chunk."""
        first, last = self.chunk_bounds(position)
        # Element minus position is the same for all elements of a consecutive range, and grows at each gap. So the
        # range is found by bisection, also in a chunk of a million elements.
        offset = self.elements[position] - position

        def offset_at(other_position: int) -> int:
            return self.elements[other_position] - other_position

        begin = first + bisect_left(range(first, last), offset, key=offset_at)
        end = first + bisect_right(range(first, last), offset, key=offset_at)
        return range(self.elements[begin], self.elements[end - 1] + 1)


class Rounds:
    """The rounds of one run, in order. Rounds can only be added, at the end."""

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
        """Number of children in all rounds."""
        return self.newest.start + self.newest.children

    def add(self, newer: Round) -> None:
        """Add a round at the end."""
        self._rounds.append(newer)

    def round_of_child(self, child: int) -> Round:
        """Return the round that a child belongs to."""
        return next(round for round in reversed(self._rounds) if round.start <= child)

    def locate(self, element: int, up_to: int | None = None) -> tuple[Round, int]:
        """Return the last round that runs an element, and the position of the element in it.

        ``up_to`` is the number of the last round to consider. Raises `IndexError` if no round runs the element.
        """
        for round in reversed(self._rounds):
            position = round.position(element)
            if position is not None and (up_to is None or round.number <= up_to):
                return round, position
        raise IndexError(element)

    def children_of(self, element: int) -> list[int]:
        """Return the children that ran an element, one for each of its rounds."""
        positions = ((round, round.position(element)) for round in self._rounds)
        return [round.start + position // round.chunksize for round, position in positions if position is not None]

    def span_of(self, element: int) -> tuple[int, int]:
        """Return the child that owns ``element``, and the end of the contiguous range it owns from there."""
        owner, position = self.locate(element)
        stop = owner.contiguous_range(position).stop
        # The range ends before the first element that a later round took away.
        for later in (round for round in self._rounds if round.number > owner.number):
            next_position = bisect_left(later.elements, element)
            if next_position < len(later.elements):
                stop = min(stop, later.elements[next_position])
        return owner.start + position // owner.chunksize, stop

    def ends_of(self, child: int) -> tuple[int, int]:
        """Return the first and the last element that a child ran, also if later rounds ran them again."""
        round = self.round_of_child(child)
        start, stop = round.chunk_bounds((child - round.start) * round.chunksize)
        return round.elements[start], round.elements[stop - 1]

    def spans(self, child: int) -> Iterator[range]:
        """Yield the contiguous ranges of elements that a child still owns, without those of later rounds."""
        round = self.round_of_child(child)
        position, last = round.chunk_bounds((child - round.start) * round.chunksize)
        while position < last:
            element = round.elements[position]
            owner, stop = self.span_of(element)
            if owner == child:
                yield range(element, stop)
            position = (
                bisect_left(round.elements, max(stop, element + 1), position) if owner == child else position + 1
            )

    def first_pack_start(self, element: int) -> int:
        """Return the smallest first index of any pack that can contain ``element``."""
        # A pack holds consecutive elements of one chunk, so it cannot begin before the range around the element.
        positions = ((round, round.position(element)) for round in self._rounds)
        return min(round.contiguous_range(position).start for round, position in positions if position is not None)

    def is_superseded(self, round: int, element: int) -> bool:
        """Return whether a failure that ``round`` stored for an element is void, because a later round runs it."""
        return self.locate(element)[0].number > round


@dataclass(frozen=True, eq=False)
class Run:
    """A submitted map: its keys, its manifest, and the rounds that this session knows."""

    keys: RunKeys
    manifest: Manifest
    rounds: Rounds

    @classmethod
    def of(cls, first: Round) -> Run:
        """Return the run that begins with this round."""
        return cls(first.submission.keys, first.submission.manifest, Rounds([first]))

    @property
    def job_id(self) -> str:
        """The id in Batch of the map's first job."""
        return self.rounds.first.submitted_ids[0]

    @property
    def retried(self) -> bool:
        """Whether the run has a round after the map."""
        return self.rounds.newest.number > 0

    @property
    def newest_job_ids(self) -> list[str]:
        """The ids in Batch of the submitted jobs of the newest round."""
        return self.rounds.newest.submitted_ids

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of its jobs."""
        return self.rounds.first.stored_choices.get("tags") or {}


def open_run(cloud: Cloud, keys: RunKeys, job_id: str, record: Record | None = None) -> Run:
    """Read a run with its first round only.

    Parameters
    ----------
    cloud : Cloud
    keys : RunKeys
    job_id : str
        The job to name in an error.
    record : Record, optional
        The record of the map, if it is already read.

    Raises
    ------
    ResourceDoesNotExistException
        The run was deleted, or never submitted.
    StoredDataError
        The manifest is damaged, or a newer cloudknot stored it.
    """
    stored = read_manifest(cloud, keys, job_id)
    choices = parse_fields(cloud.storage, keys.manifest, stored)
    submission = Submission(keys, parse_manifest(cloud.storage, keys.manifest, stored))
    record = record or read_record(cloud, submission)
    if record is None:
        raise ResourceDoesNotExistException(f"The run {keys.url} was never submitted to AWS Batch. Map again.")
    return Run.of(first_round(submission, record, choices))


def first_round(submission: Submission, record: Record, stored_choices: StoredChoices) -> Round:
    """Return round 0, which runs all elements."""
    return Round(submission, range(submission.manifest.count), 0, record, stored_choices)


def later_rounds(cloud: Cloud, keys: RunKeys, after: Round) -> Iterator[Round]:
    """Read the rounds of a run that follow ``after``. Without any, the cost is one listing."""
    last = after
    numbers = sorted(filter(None, map(keys.round_of, cloud.storage.keys(keys.rounds))))
    for number in (number for number in numbers if number > after.number):
        # The results of a damaged round still count, because they are listed. Only its job is not watched.
        with suppress(StoredDataError):
            newer = _read_round(cloud, keys, number, last.start + last.children)
            # A manifest without a job is a claim: its session is still submitting, or has died.
            if newer is not None:
                last = newer
                yield last


def _read_round(cloud: Cloud, keys: RunKeys, number: int, start: int) -> Round | None:
    """Return a round after the first, whose first child has the number ``start``; None if it has no job."""
    key = keys.round(number)
    stored = cloud.storage.get(key)
    submission = Submission(keys, parse_manifest(cloud.storage, key, stored), number)
    record = read_record(cloud, submission)
    if record is None:
        return None
    elements = _read_elements(cloud, submission)
    return Round(submission, elements, start, record, parse_fields(cloud.storage, key, stored))


def claimed_round(cloud: Cloud, keys: RunKeys, number: int) -> Round | None:
    """Return a round that a session has claimed without submitting it; None if it has not stored the elements."""
    key = keys.round(number)
    # An unreadable claim never had a job. Without its manifest, the session has given up the claim.
    with suppress(StoredDataError, ResourceDoesNotExistException):
        submission = Submission(keys, parse_manifest(cloud.storage, key, cloud.storage.get(key)), number)
        nothing = submission_record(keys.job_name(number), submission.manifest, [])
        return Round(submission, _read_elements(cloud, submission), 0, nothing, {})
    return None


def round_manifest(manifest: Manifest, number: int, elements: int, chunksize: int, retries: int | None) -> Manifest:
    """Return the manifest for a round of ``elements`` elements, from that of an earlier round of the run."""
    # Also after a map with independent jobs, a retry is one job: an array, or a plain job for one child.
    return replace(
        manifest,
        round=number,
        todo=elements,
        chunksize=chunksize,
        job_type="array",
        attempts=retries or manifest.attempts,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def store_elements(cloud: Cloud, submission: Submission, elements: Sequence[int]) -> None:
    """Store the elements of a round after the first, in the format of its run."""
    keys, manifest = submission.keys, submission.manifest
    if manifest.is_sealed:
        seed = todo_seed(keys.run_id, manifest.round)
        data = b"".join(pack_entry(index, position, seed) for position, index in enumerate(elements))
    else:
        data = pack_old_entries(elements)
    cloud.storage.put(keys.todo(manifest.round), data)


def _read_elements(cloud: Cloud, submission: Submission) -> Sequence[int]:
    """Return the elements of a round after the first. Raises `StoredDataError` if their list is damaged."""
    keys, manifest = submission.keys, submission.manifest
    data = cloud.storage.get(keys.todo(manifest.round))
    return checked(cloud.storage, keys.todo(manifest.round), lambda: _decode(data, keys, manifest))


def _decode(data: bytes, keys: RunKeys, manifest: Manifest) -> Sequence[int]:
    seed = todo_seed(keys.run_id, manifest.round) if manifest.is_sealed else None
    indices = [index for index in unpack_entries(data, 0, seed) if index is not None]
    if len(indices) != manifest.todo or not all(map(lt, [-1, *indices], [*indices, manifest.count])):
        raise DamagedError(WRONG_CHECKSUM)
    return array("Q", indices)
