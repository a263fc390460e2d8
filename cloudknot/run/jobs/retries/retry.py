"""Retry: submit the failed elements of a run again, as one more round.

`BatchJob.retry_failed` starts a round, and so does the collector with ``memory_growth``. Two sessions never submit the
same round.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.errors import CloudknotError, JobRunningError, ResourceDoesNotExistException, StoredDataError
from cloudknot.options import streams
from cloudknot.options.choices import MapOptions, Overrides
from cloudknot.options.validators import MAX_GROWTH
from cloudknot.run.collect.element_table import FAILURE
from cloudknot.run.collect.job_failures import Ending, ending, out_of_memory
from cloudknot.run.collect.run_view import ENDED, STOP_PAUSE, STOP_POLLS, RunView
from cloudknot.run.jobs.retries.closing import close_gaps
from cloudknot.run.jobs.retries.successor import Successor, report_newer_function
from cloudknot.run.submit.dependencies import refuse_too_many
from cloudknot.run.submit.overrides import with_overrides
from cloudknot.run.submit.rounds import (
    Round,
    Rounds,
    Run,
    StoredChoices,
    claimed_round,
    open_run,
    round_manifest,
    store_elements,
)
from cloudknot.run.submit.stored_documents import parse_fields, parse_manifest
from cloudknot.run.submit.stored_runs import discard_run, read_manifest
from cloudknot.run.submit.submit_job import (
    CHUNKSIZE_WAS_DEFAULT,
    MAX_CHILDREN,
    Submission,
    array_request,
    end_jobs,
    read_record,
    submit,
)
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.run.collect.element_table import ElementTable
    from cloudknot.run.submit.start_run import Target


SINGLE_CHILD_LIMIT = 1000
"""Largest number of elements that get a child job each in a retry, if the caller chose no chunk size."""
CLAIM_PATIENCE = 10.0
"""Seconds to wait for the job of a round that another session has claimed. Then its claim becomes void."""
CLAIM_PAUSE = 0.5
"""Seconds between two looks for that job."""


@dataclass(frozen=True)
class Choices:
    """The choices for a round: those of the map, changed by each retry since.

    ``base`` is the memory of its jobs in MiB before it first grew; 0 if it has not grown.
    """

    overrides: Overrides
    env_vars: tuple[tuple[str, str], ...] = ()
    base: int = 0

    @classmethod
    def from_stored(cls, stored: StoredChoices) -> Choices:
        """Return the choices of a stored round."""
        env_vars = tuple((name, value) for name, value in stored.get("env_vars") or ())
        return cls(Overrides.make(**stored.get("overrides") or {}), env_vars, stored.get("base", 0))

    def to_stored(self) -> StoredChoices:
        """Return the choices as the manifest of a round stores them."""
        return {"overrides": asdict(self.overrides), "env_vars": self.env_vars, "base": self.base}

    def changed(self, changes: Mapping[str, int | None], base: int = 0) -> Choices:
        """Return a copy with some overrides changed; None leaves one as it is."""
        new_values = {name: value for name, value in changes.items() if value is not None}
        return Choices(Overrides.make(**{**asdict(self.overrides), **new_values}), self.env_vars, base or self.base)


class Retry:
    """The submitter of further rounds of one run.

    Parameters
    ----------
    run : Run
    view : RunView
        The view of the same run.
    grows : bool
        Whether ``memory_growth`` may submit rounds: only in a session that submitted the map, or a retry of it.
    """

    def __init__(self, run: Run, view: RunView, grows: bool = False) -> None:
        # Growth can double a bill unnoticed, so only a session that has submitted something may do it. A session that
        # only reads results submits nothing.
        self._run, self._view, self._may_grow = run, view, grows
        self._grown_choices: Choices | None = None

    def submit(
        self,
        table: ElementTable,
        changes: Mapping[str, int | None],
        chunksize: int | None,
        successor: Successor | None = None,
    ) -> None:
        """Submit the elements without a value, with the previous choices as ``changes`` modifies them.

        Submits nothing if all of them have a value by now. Without a ``successor``, the function is that of the
        previous round.
        """
        with self._view.lock:
            failed = table.indices_without_value()
            without_outcome = [index for index in failed if table.state(index) != FAILURE]
            choices = self._default_choices(table)
            choices = (self._adapted(choices, successor) if successor else choices).changed(changes)
            if successor:
                successor.check(choices.overrides)
            else:
                report_newer_function(self._view.cloud, self._run)
            if chunksize is None and table.any_died():
                chunksize = chunk_after_death(self._run.rounds, len(failed))
            target = successor.target if successor else None
            self._start(failed, without_outcome, choices, chunksize, self._live_jobs_of_source(), target)
            # From now on memory may grow here, because this session has submitted a round itself.
            self._may_grow = True

    def _start(
        self,
        elements: Sequence[int],
        without_outcome: Sequence[int],
        choices: Choices,
        chunksize: int | None = None,
        depends_on: Sequence[str] = (),
        target: Target | None = None,
    ) -> None:
        rounds = self._run.rounds
        # An attempt that Batch believes lost may have stored a value since, and so may the job of a void claim.
        values = close_gaps(self._view, without_outcome, void_rounds(self._view.cloud, rounds))
        elements = [index for index in elements if index not in values]
        if not elements:
            return
        rounds.add(start_round(self._view.cloud, rounds, elements, choices, chunksize, depends_on, target))

    def _adapted(self, choices: Choices, successor: Successor) -> Choices:
        """Return the choices without a memory that is less than the successor's own."""
        # Somebody may have created the knot again with more memory, just for this retry.
        memory = choices.overrides.memory
        if not memory or memory > successor.own_memory(self._view.cloud):
            return choices
        return replace(choices, overrides=replace(choices.overrides, memory=None), base=0)

    @property
    def _growth_factor(self) -> float:
        return self._run.rounds.newest.submission.manifest.memory_growth

    def _default_choices(self, table: ElementTable) -> Choices:
        """Return the choices for a retry without arguments."""
        choices, growth = Choices.from_stored(self._run.rounds.newest.stored_choices), self._growth_factor
        if growth and (memory := table.short_of_memory()):
            return grown(choices, growth, memory) or choices
        return choices

    def _live_jobs_of_source(self) -> list[str]:
        """Return the live Batch jobs of the source run, such as a retry: their results are inputs of this map."""
        url = self._run.manifest.source
        # A clobbered source run has no live jobs, and the worker reports that its inputs are gone.
        with suppress(ResourceDoesNotExistException):
            if url:
                keys = RunKeys.parse(url)
                cloud = self._view.cloud.in_bucket(keys.bucket)
                return RunView(cloud, open_run(cloud, keys, self._run.manifest.source_job)).live_job_ids()
        return []

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Wait for a running memory-growth submission, then disable further ones, unless the block fails."""
        # `grow` holds this lock until its submission has finished.
        with self._view.lock:
            could_grow, self._may_grow = self._may_grow, False
        try:
            yield
        except BaseException:
            self._may_grow = could_grow
            raise

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Return whether the elements without a result in this failed child will run again with more memory.

        The collector asks for each failed child, and calls `grow` when the whole job has ended.
        """
        end = ending(job)
        # After a person has ended the job, in this or another session, nothing is submitted again.
        is_enabled = self._may_grow and not self._view.stopped_by_hand
        if not (is_enabled and self._growth_factor and out_of_memory(end)):
            return False
        newest = self._run.rounds.newest
        more = grown(Choices.from_stored(newest.stored_choices), self._growth_factor, end.memory)
        self._grown_choices = more or self._grown_choices
        return more is not None and child >= newest.start

    def grow(self, elements: Sequence[int]) -> None:
        """Submit the elements again with more memory."""
        choices = self._grown_choices
        assert choices is not None
        with self._view.lock:
            # This session may have ended the job in the meantime, or another session may have submitted a round.
            if not self._may_grow or self._view.refresh():
                return
            subject = "1 element" if len(elements) == 1 else f"{len(elements):,} elements"
            streams.logger.warning("Out of memory: %s will run again with %s MiB.", subject, choices.overrides.memory)
            self._start(elements, elements, choices)

    def growth_fix(self, end: Ending) -> str:
        """Return the fix for a job that ran out of memory, where ``memory_growth`` changes it; else empty."""
        factor = self._growth_factor
        if not factor or not end.memory:
            return ""
        more = grown(Choices.from_stored(self._run.rounds.newest.stored_choices), factor, end.memory)
        if more is None:
            return (
                f"Its memory has grown to {MAX_GROWTH} times the original, the limit of memory_growth. "
                f"Run it again with more memory: future.retry_failed(memory={2 * end.memory})."
            )
        return (
            "memory_growth retries by itself only while the session that submitted the map is alive. "
            f"Run it again with {more.overrides.memory:,} MiB: future.retry_failed()."
        )


def start_round(
    cloud: Cloud,
    rounds: Rounds,
    elements: Sequence[int],
    choices: Choices,
    chunksize: int | None = None,
    depends_on: Sequence[str] = (),
    target: Target | None = None,
) -> Round:
    """Submit one more round of a run.

    Parameters
    ----------
    cloud, rounds : Cloud, Rounds
    elements : sequence of int
        Sorted indices of the elements.
    choices : Choices
    chunksize : int, optional
        Elements for each child job. Default: see `chunk_of_retry`.
    depends_on : sequence of str
        Ids of the Batch jobs that the round waits for.
    target : Target, optional
        The knot that runs the round. Default: the function, queue and job definition of the newest round.

    Raises
    ------
    CloudknotInputError
        The round would wait for more jobs than Batch allows.
    JobRunningError
        Another session is submitting the round.
    ResourceDoesNotExistException
        The run was deleted.
    """
    refuse_too_many(len(depends_on))
    dependencies: list[JobDependencyTypeDef] = [{"jobId": job_id} for job_id in depends_on]
    session = secrets.token_hex(8)
    manifest, tags = _next_manifest(rounds, len(elements), choices, chunksize, target)
    stored_choices: StoredChoices = {**choices.to_stored(), "tags": tags, "depends_on": [dependencies]}
    submission = _claim_round(cloud, rounds, manifest, stored_choices, session)
    keys, manifest = submission.keys, submission.manifest
    void = _void_key(keys, manifest.round, session)

    undo = partial(cloud.storage.delete, keys.round(manifest.round), keys.todo(manifest.round))
    _store_elements(cloud, submission, elements, void, undo)
    variables = MapOptions(env_vars=choices.env_vars).container_environment
    request = array_request(submission, variables)
    request["dependsOn"] = dependencies
    record = submit(cloud, submission, [with_overrides(request, choices.overrides)], undo)
    _end_if_clobbered(cloud, rounds, submission, record)
    _end_if_void(cloud, submission, record, void)
    return Round(submission, elements, rounds.children, record, stored_choices)


def _store_elements(
    cloud: Cloud, submission: Submission, elements: Sequence[int], void: str, undo: Callable[[], None]
) -> None:
    """Store the elements of a claimed round.

    Raises
    ------
    JobRunningError
        The claim has become void. The stored objects of the round are deleted.
    """
    try:
        store_elements(cloud, submission, elements)
    except BaseException:
        with suppress(CloudknotError):
            undo()
        raise
    # The network was down or the machine asleep, and another session has taken the round over.
    if cloud.storage.exists(void):
        undo()
        raise _claimed_elsewhere(submission.keys)


def _next_manifest(
    rounds: Rounds, count: int, choices: Choices, chunksize: int | None, target: Target | None
) -> tuple[Manifest, dict[str, str]]:
    """Return the manifest of the next round, for ``count`` elements, and the tags of its jobs."""
    newest = rounds.newest
    size = chunk_of_retry(rounds, count, chunksize)
    manifest = round_manifest(newest.submission.manifest, newest.number + 1, count, size, choices.overrides.retries)
    if target is None:
        # The function of the newest round. With another one, a list would hold results of two without a word.
        return manifest, newest.stored_choices.get("tags") or {}
    successor = replace(
        manifest,
        function=target.function,
        image=target.image,
        own_function=False,
        job_queue=target.job_queue,
        job_definition=target.job_definition,
        attempts=choices.overrides.retries or target.attempts,
        memory_growth=target.memory_growth or manifest.memory_growth,
    )
    return successor, target.job_tags


def _claim_round(
    cloud: Cloud, rounds: Rounds, manifest: Manifest, stored_choices: StoredChoices, session: str
) -> Submission:
    """Store the manifest of a new round, under a key that only one session can take.

    ``session`` is a random word.

    Raises
    ------
    JobRunningError
        Another session has a claim to the round.
    ResourceDoesNotExistException
        The run was deleted.
    """
    newest = rounds.newest
    keys = newest.submission.keys
    # Only for its error: a deleted run must not get a new round.
    read_manifest(cloud, keys, rounds.first.submitted_ids[0])
    # The manifest of a void claim is still stored, so its number is skipped.
    number = max([newest.number, *_void_claims(cloud, keys, newest.number)]) + 1
    manifest = replace(manifest, round=number)
    # A conditional write: of two sessions that retry the run at once, one gets the number. The random word makes their
    # claims differ, so a session whose answer was lost recognises its own.
    key = keys.round(number)
    claim = manifest.to_document(key, **stored_choices, session=session)
    if not cloud.storage.put_new(key, claim):
        raise _claimed_elsewhere(keys)
    return Submission(keys, manifest, number, stored_choices["tags"])


def _end_if_void(cloud: Cloud, submission: Submission, record: Record, void: str) -> None:
    """End the new jobs if another session has made their claim void in the meantime.

    Raises
    ------
    JobRunningError
        The claim is void.
    """
    # The other session found no job a moment ago, and submits the elements itself.
    if cloud.storage.exists(void):
        end_jobs(cloud, submission, record["job_ids"], "Another session submitted this retry")
        raise _claimed_elsewhere(submission.keys)


def _end_if_clobbered(cloud: Cloud, rounds: Rounds, submission: Submission, record: Record) -> None:
    """End the new jobs if another session has deleted the run in the meantime.

    Raises
    ------
    ResourceDoesNotExistException
        The run was deleted.
    """
    # The other session ended the jobs that it knew, and could not know these.
    try:
        read_manifest(cloud, submission.keys, rounds.first.submitted_ids[0])
    except ResourceDoesNotExistException:
        end_jobs(cloud, submission, record["job_ids"], "Clobbered")
        _await_end(cloud, record["job_ids"])
        discard_run(cloud, submission.keys)
        raise


def _await_end(cloud: Cloud, job_ids: Sequence[str | None]) -> None:
    """Wait for terminated jobs to end, at most as long as ECS gives a container to stop."""
    # A child that is being stopped still stores its outcomes. If the run were deleted first, they would stay behind.
    submitted_ids = [job_id for job_id in job_ids if job_id]
    for _ in range(STOP_POLLS):
        if all(job["status"] in ENDED for job in batch.describe_jobs(cloud.door, submitted_ids)):
            return
        time.sleep(STOP_PAUSE)


def chunk_of_retry(rounds: Rounds, count: int, chunksize: int | None) -> int:
    """Return the chunk size for a retry of ``count`` elements.

    Without ``chunksize`` it is that of the newest round, or smaller if the caller of `map` did not choose one.
    """
    default = rounds.newest.chunksize
    if rounds.first.stored_choices.get(CHUNKSIZE_WAS_DEFAULT):
        # An element that kills its process takes its whole chunk along, so a default chunk shrinks.
        default = min(default, _smallest_chunk(count))
    # At most the chunk of the map, because readers assume that no pack is longer.
    return max(min(chunksize or default, rounds.first.chunksize), -(-count // MAX_CHILDREN))


def chunk_after_death(rounds: Rounds, count: int) -> int:
    """Return the chunk size for a retry of ``count`` elements after a process has died."""
    # Even a size that the caller chose is reduced: an element that killed the others of its chunk would do so again.
    return min(rounds.newest.chunksize, _smallest_chunk(count))


def _smallest_chunk(count: int) -> int:
    """Return the chunk size for about `SINGLE_CHILD_LIMIT` child jobs; 1 for fewer elements."""
    return -(-count // SINGLE_CHILD_LIMIT)


def grown(choices: Choices, factor: float, memory: int | None) -> Choices | None:
    """Return the choices after a job with ``memory`` MiB ran out of memory.

    None if the memory is at its limit, or not known.
    """
    if not memory:
        return None
    base = choices.base or memory
    more = min(int(memory * factor), base * MAX_GROWTH)
    return choices.changed({"memory": more}, base) if more > memory else None


def void_rounds(cloud: Cloud, rounds: Rounds) -> list[Round]:
    """Return the rounds after the newest one whose claims are void, and that may have had a job for a moment.

    Raises
    ------
    JobRunningError
        Another session is submitting the next round, or has submitted it.
    """
    newest = rounds.newest
    keys = newest.submission.keys
    claimed = (claimed_round(cloud, keys, number) for number in _void_claims(cloud, keys, newest.number))
    # A session stores the elements, then looks whether its claim is void, and then submits. So without elements here,
    # after the claim became void, there will be no job.
    return [round for round in claimed if round is not None]


def _void_claims(cloud: Cloud, keys: RunKeys, newest: int) -> list[int]:
    """Return the numbers of the claimed rounds after ``newest``, after the claims of dead sessions became void."""
    numbers = sorted(filter(None, map(keys.round_of, cloud.storage.keys(keys.rounds))))
    claimed = [number for number in numbers if number > newest]
    if not all(_is_void(cloud, keys, number) for number in claimed):
        raise _claimed_elsewhere(keys)
    return claimed


def _is_void(cloud: Cloud, keys: RunKeys, number: int) -> bool:
    """Return whether a claimed round has no job. Its session has died, and cannot submit it any more."""
    # The clocks of two machines may differ, so the age of a claim is measured from the first look at it.
    key, deadline = keys.round(number), time.monotonic() + CLAIM_PATIENCE
    while True:
        try:
            stored = cloud.storage.get(key)
        except ResourceDoesNotExistException:
            # That session has given up, and has deleted its claim.
            return True
        try:
            fields = parse_fields(cloud.storage, key, stored)
            submission = Submission(keys, parse_manifest(cloud.storage, key, stored), number)
        except StoredDataError:
            # No session can use a damaged claim.
            return True
        void = _void_key(keys, number, fields.get("session", ""))
        if read_record(cloud, submission) is not None:
            return False
        if cloud.storage.exists(void):
            return True
        if time.monotonic() >= deadline:
            break
        time.sleep(CLAIM_PAUSE)
    # A session that lives after all looks for this object before and after it submits, and ends its jobs again.
    cloud.storage.put(void, b"")
    return read_record(cloud, submission) is None


def _void_key(keys: RunKeys, number: int, session: str) -> str:
    """Return the key of the object that makes a session's claim to a round void."""
    return f"{keys.prefix}/void.{number}.{session}"


def _claimed_elsewhere(keys: RunKeys) -> JobRunningError:
    return JobRunningError(
        f"Another session is submitting a retry of the run {keys.run_id}. This call submitted nothing. Call "
        "retry_failed() again after the other retry has ended."
    )
