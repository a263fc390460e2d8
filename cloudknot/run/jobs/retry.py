"""Retry: failed elements run again, in one more round of a run, submitted once, whoever asks for it and however often.

`retry_failed` asks for it, or the collector with ``memory_growth``. The round's manifest is stored first, under a key
that only one session can take. A session that dies before the job exists leaves a claim that is void after a while;
one that dies later leaves a job that is found by its name.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.errors import CloudknotError, JobRunningError, ResourceDoesNotExistException
from cloudknot.options.choices import MapOptions, Overrides
from cloudknot.options.validators import MAX_GROWTH
from cloudknot.run.collect.job_failures import Ending, ending, out_of_memory
from cloudknot.run.collect.run_view import ENDED, STOP_LOOKS, STOP_PAUSE, RunView
from cloudknot.run.submit.dependencies import refuse_too_many
from cloudknot.run.submit.overrides import with_overrides
from cloudknot.run.submit.rounds import Round, Rounds, Run, StoredChoices, encode_elements, open_run, round_manifest
from cloudknot.run.submit.stored_runs import discard_run, read_manifest
from cloudknot.run.submit.submit_job import (
    CHUNKSIZE_WAS_DEFAULT,
    MAX_CHILDREN,
    Submission,
    array_request,
    end_jobs,
    submit,
)
from cloudknot.worker.wire.keys import RunKeys
from cloudknot.worker.wire.manifest import Manifest, Record

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDependencyTypeDef

    from cloudknot.aws import Cloud
    from cloudknot.run.collect.element_table import ElementTable

logger = logging.getLogger("cloudknot")

FEW = 1000
"""Elements of a retry that have a child each, where nobody chose how many share one."""
CLAIM_TIME = timedelta(minutes=30)
"""Time within which a session that has claimed a round submits it, or never does."""


@dataclass(frozen=True)
class Choices:
    """What a round is submitted with: what was given for the map, and for retries of it since.

    ``base`` is the MiB that its jobs had before memory was first made to grow; 0 as long as it has not.
    """

    overrides: Overrides
    env_vars: tuple[tuple[str, str], ...] = ()
    base: int = 0

    @classmethod
    def from_stored(cls, stored: StoredChoices) -> Choices:
        """The choices of a round, from what is stored of it."""
        env_vars = tuple((name, value) for name, value in stored.get("env_vars") or ())
        return cls(Overrides.make(**stored.get("overrides") or {}), env_vars, stored.get("base", 0))

    def to_stored(self) -> StoredChoices:
        """What is stored of them with a round."""
        return {"overrides": asdict(self.overrides), "env_vars": self.env_vars, "base": self.base}

    def given(self, overrides: Mapping[str, int | None], base: int = 0) -> Choices:
        """These, with others in place of some."""
        changed = {name: value for name, value in overrides.items() if value is not None}
        return Choices(Overrides.make(**{**asdict(self.overrides), **changed}), self.env_vars, base or self.base)


class Retry:
    """Submits one more round of a run.

    Parameters
    ----------
    run : Run
    view : RunView
        Of the same run.
    grows : bool
        Whether this session submitted the map: then ``memory_growth`` works by itself.
    """

    def __init__(self, run: Run, view: RunView, grows: bool = False) -> None:
        self._run, self._view, self._may_grow = run, view, grows
        self._more: Choices | None = None

    def submit(self, table: ElementTable, given: Mapping[str, int | None], chunksize: int | None) -> None:
        """Submit the elements that have ended without a value, with ``given`` choices in place of the last ones."""
        with self._view.lock:
            failed = table.indices_without_value()
            choices = self._choices(table).given(given)
            if chunksize is None and table.any_died():
                chunksize = chunk_after_death(self._run.rounds, len(failed))
            self._start(failed, choices, chunksize, self._live_jobs_of_source())
            self._may_grow = True

    def _start(
        self,
        elements: Sequence[int],
        choices: Choices,
        chunksize: int | None = None,
        depends_on: Sequence[str] = (),
    ) -> None:
        rounds = self._run.rounds
        rounds.add(start_round(self._view.cloud, rounds, elements, choices, chunksize, depends_on))

    def _choices(self, table: ElementTable) -> Choices:
        """Return the choices for a retry unless something else is asked for."""
        choices, growth = Choices.from_stored(self._run.rounds.newest.stored_choices), self._run.manifest.memory_growth
        if growth and (memory := table.short_of_memory()):
            return grown(choices, growth, memory) or choices
        return choices

    def _live_jobs_of_source(self) -> list[str]:
        """Return the Batch jobs that still make results which are inputs of this map, such as a retry's."""
        url = self._run.manifest.source
        # A run that was clobbered makes no more results, and the job itself reports that its inputs are gone.
        with suppress(ResourceDoesNotExistException):
            if url:
                keys = RunKeys.parse(url)
                cloud = self._view.cloud.in_bucket(keys.bucket)
                return RunView(cloud, open_run(cloud, keys, self._run.manifest.source_job)).live_job_ids()
        return []

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let nothing grow from now on, unless the block fails. A submission that is going on is waited for."""
        with self._view.lock:
            could_grow, self._may_grow = self._may_grow, False
        try:
            yield
        except BaseException:
            self._may_grow = could_grow
            raise

    def may_grow(self, child: int, job: batch.Job) -> bool:
        """Return whether elements that a child left without a result run again with more memory, once all has ended.

        The collector asks in the session that submitted the map, or a retry of it.
        """
        end = ending(job)
        wanted = self._may_grow and not self._view.stopped_by_hand
        if not (wanted and self._run.manifest.memory_growth and out_of_memory(end)):
            return False
        newest = self._run.rounds.newest
        more = grown(Choices.from_stored(newest.stored_choices), self._run.manifest.memory_growth, end.memory)
        self._more = more or self._more
        return more is not None and child >= newest.start

    def grow(self, elements: Sequence[int]) -> None:
        """Run elements again with more memory."""
        assert self._more is not None
        with self._view.lock:
            if not self._may_grow or self._view.refresh():
                return  # Somebody has ended the job, or another session was faster.
            logger.warning("Out of memory: %d elements run again, %s", len(elements), self._more.overrides)
            self._start(elements, self._more)

    def growth(self, end: Ending) -> str:
        """What ``memory_growth`` does about a job that ran out of memory, in words; empty without it."""
        factor = self._run.manifest.memory_growth
        if not factor or not end.memory:
            return ""
        more = grown(Choices.from_stored(self._run.rounds.newest.stored_choices), factor, end.memory)
        if more is None:
            return f". It has grown to {MAX_GROWTH} times its first memory, where memory_growth ends"
        return (
            f", retry_failed() alone with {more.overrides.memory:,} MiB. memory_growth does that by itself only while "
            "the session lives that submitted the map"
        )


def start_round(
    cloud: Cloud,
    rounds: Rounds,
    elements: Sequence[int],
    choices: Choices,
    chunksize: int | None = None,
    depends_on: Sequence[str] = (),
) -> Round:
    """Submit one more round of a run, of the elements at these sorted indices, after the jobs with these ids.

    Raises
    ------
    CloudknotInputError
        They are more jobs than Batch takes.
    JobRunningError
        Another session is submitting one, or died when it was about to.
    ResourceDoesNotExistException
        The run was deleted.
    """
    refuse_too_many(len(depends_on))
    newest = rounds.newest
    waits: list[JobDependencyTypeDef] = [{"jobId": job_id} for job_id in depends_on]
    keys, first = newest.submission.keys, newest.submission.manifest
    read_manifest(cloud, keys, rounds.first.submitted_ids[0])
    number = _free_number(cloud, keys, newest.number)
    size = chunk_of_retry(rounds, len(elements), chunksize)
    manifest = round_manifest(first, number, len(elements), size, choices.overrides.retries)
    tags = newest.stored_choices.get("tags") or {}
    stored_choices: StoredChoices = {**choices.to_stored(), "tags": tags, "depends_on": [waits]}
    claim = manifest.to_json(**stored_choices, session=secrets.token_hex(8)).encode()
    if not cloud.storage.put_new(keys.round(number), claim):
        raise _underway(keys, CLAIM_TIME)
    submission = Submission(keys, manifest, number, tags)
    variables = MapOptions(env_vars=choices.env_vars).container_environment
    request = array_request(submission, variables)
    request["dependsOn"] = waits
    request = with_overrides(request, choices.overrides)

    def undo() -> None:
        cloud.storage.delete(keys.round(number), keys.todo(number))

    try:
        cloud.storage.put(keys.todo(number), encode_elements(elements))
    except BaseException:
        with suppress(CloudknotError):
            undo()
        raise
    if datetime.now(UTC) - datetime.fromisoformat(manifest.created) > CLAIM_TIME / 6:
        # The network was away or the machine asleep, and another session may soon take the claim for void.
        undo()
        raise _underway(keys, timedelta(0))
    record = submit(cloud, submission, [request], undo)
    _end_if_clobbered(cloud, rounds, submission, record)
    return Round(submission, elements, rounds.children, record, stored_choices)


def _end_if_clobbered(cloud: Cloud, rounds: Rounds, submission: Submission, record: Record) -> None:
    """End what was just submitted of a run that somebody deletes meanwhile, who could not know of it."""
    try:
        read_manifest(cloud, submission.keys, rounds.first.submitted_ids[0])
    except ResourceDoesNotExistException:
        end_jobs(cloud, submission, record["job_ids"], "Clobbered")
        _await_end(cloud, record["job_ids"])
        discard_run(cloud, submission.keys)
        raise


def _await_end(cloud: Cloud, job_ids: Sequence[str | None]) -> None:
    """Wait until jobs that were terminated have ended, as long as children are given to stop.

    A child that is being stopped still stores its records, which would stay behind.
    """
    known = [job_id for job_id in job_ids if job_id]
    for _ in range(STOP_LOOKS):
        if all(job["status"] in ENDED for job in batch.describe_jobs(cloud.door, known)):
            return
        time.sleep(STOP_PAUSE)


def chunk_of_retry(rounds: Rounds, count: int, asked: int | None) -> int:
    """The number of elements of a child, of ``count``: by default as before, or fewer where nobody ever chose.

    One that ends its process then takes few others along, or none. Readers rely on it that no pack is longer than a
    chunk of the map.
    """
    usual = rounds.newest.chunksize
    if rounds.first.stored_choices.get(CHUNKSIZE_WAS_DEFAULT):
        usual = min(usual, _unasked(count))
    return max(min(asked or usual, rounds.first.chunksize), -(-count // MAX_CHILDREN))


def chunk_after_death(rounds: Rounds, count: int) -> int:
    """The same where a process of the last round died, whoever chose its chunks: one element may have taken others
    along, and would again."""
    return min(rounds.newest.chunksize, _unasked(count))


def _unasked(count: int) -> int:
    """The most elements of a child where nobody chose; of a few, each has a child of its own."""
    return -(-count // FEW)


def grown(choices: Choices, factor: float, memory: int | None) -> Choices | None:
    """The choices for what ran out of ``memory`` MiB; None when it may not grow any more, or that is not known."""
    if not memory:
        return None
    base = choices.base or memory
    more = min(int(memory * factor), base * MAX_GROWTH)
    return choices.given({"memory": more}, base) if more > memory else None


def _free_number(cloud: Cloud, keys: RunKeys, newest: int) -> int:
    """The number for a new round; those of void claims are not used again."""
    number = newest
    for key in cloud.storage.keys(keys.rounds):
        if keys.round_of(key) > newest:
            left = _claimed(cloud, key) + CLAIM_TIME - datetime.now(UTC)
            if left > timedelta(0) or cloud.storage.exists(keys.submission_of(keys.round_of(key))):
                raise _underway(keys, max(left, timedelta(0)))
            number = max(number, keys.round_of(key))
    return number + 1


def _claimed(cloud: Cloud, key: str) -> datetime:
    return datetime.fromisoformat(Manifest.from_json(cloud.storage.get(key)).created)


def _underway(keys: RunKeys, left: timedelta) -> JobRunningError:
    return JobRunningError(
        f"Another session is submitting a retry of {keys.run_id} at this moment, or ended while it did. Nothing was "
        f"submitted. Call again; if that session has ended, in {left.seconds // 60 + 1} minutes."
    )
