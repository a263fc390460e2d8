"""RunView: all reads of S3 and Batch for one run: packs, states of child jobs, and the child of an element."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from cloudknot.aws import batch
from cloudknot.aws.sdk import forks
from cloudknot.errors import CloudknotError
from cloudknot.run.collect.element_errors import Place
from cloudknot.run.collect.pack_cache import submit
from cloudknot.run.submit.chunks import mean_seconds
from cloudknot.run.submit.dependencies import failed_dependencies
from cloudknot.run.submit.rounds import Round, Run, later_rounds
from cloudknot.run.submit.submit_job import read_record
from cloudknot.worker.wire.failure import ABSENT, DAMAGED, VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Origin, Pack
from cloudknot.worker.wire.pack_order import Listed, read_head
from cloudknot.worker.wire.seal import UnusableError

if TYPE_CHECKING:
    from cloudknot.aws import Cloud
    from cloudknot.aws.s3.storage import StoredObject

ENDED = ("SUCCEEDED", "FAILED")
# Number of polls, and seconds between them, while children stop: 40 s in all, because ECS gives a container 30 s.
STOP_POLLS, STOP_PAUSE = 80, 0.5
READERS = 64
"""Packs that are read at the same time."""
OUTDATED = ABSENT
"""In place of the kind of a failure that does not count, because a later round runs the element again."""
# AWS's descriptions may lag behind: a job younger than this may exist although Batch does not describe it yet.
DESCRIBE_LAG = timedelta(minutes=5)


class RunView:
    """All reads of S3 and Batch for one run.

    Attributes
    ----------
    cloud : Cloud
        The cloud of the run, with the run's bucket.
    run : Run
    lock : RLock
        Hold it to add a round or to replace the future of the run.
    states : mapping
        The number of children in each of Batch's states, from the last poll.
    stopped_by_hand : bool
        Whether a person had cancelled or terminated the job by the last poll.
    """

    def __init__(self, cloud: Cloud, run: Run) -> None:
        self.cloud, self.run = cloud, run
        # One lock for both, because a future that has ended is valid only for the rounds that its collector knew.
        self.lock = forks.renewed(threading.RLock())
        self.states: Mapping[str, int] = {}
        self.stopped_by_hand = False
        # The running children at the last poll. None if they are not known, because the poll only counted them.
        self._running: set[int] | None = set()

    @property
    def name(self) -> str:
        """Batch's name of the job."""
        return self.run.rounds.first.record["name"]

    @property
    def job_id(self) -> str:
        """Batch's id of the map's first job."""
        return self.run.job_id

    @property
    def newest_round(self) -> int:
        """The number of the newest round that this session knows; 0 is the map itself."""
        return self.run.rounds.newest.number

    @property
    def newest_start(self) -> int:
        """The number of the first child of the newest round."""
        return self.run.rounds.newest.start

    def refresh(self) -> bool:
        """Read the rounds that other sessions have submitted; return whether there are any."""
        with self.lock:
            newer = list(later_rounds(self.cloud, self.run.keys, self.run.rounds.newest))
            for later_round in newer:
                self.run.rounds.add(later_round)
            return bool(newer)

    def list_packs(self, element: int) -> Iterator[list[Listed]]:
        """Yield pages of stored packs, in the order of their keys, from the first that may contain ``element``."""
        after = self.run.keys.output(self.run.rounds.first_pack_start(element), 0)
        pages = self.cloud.storage.pages(self.run.keys.outputs, after=after)
        return (listed for page in pages if (listed := self._listed(page)))

    def _listed(self, page: list[StoredObject]) -> list[Listed]:
        """Return the packs in a page of a listing, without foreign objects."""
        first = self.run.rounds.first
        located = ((self.run.keys.parse_output(stored.key), stored) for stored in page)
        return [
            Listed(location, stored.size)
            for location, stored in located
            if location and location.fits(self.run.manifest.count, first.chunksize)
        ]

    def read(self, location: Location, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a pack from ``start`` up to, but without, ``end``."""
        return self.cloud.storage.fetch(self.run.keys.output(*location), start, end)

    def open(self, location: Location, start: int, end: int | None) -> BinaryIO:
        """Return the bytes that `read` returns, as a file that downloads them while it is read."""
        return self.cloud.storage.open(self.run.keys.output(*location), start, end)

    def unpack(self, location: Location, data: bytes) -> Pack:
        """Return a pack from its bytes. Raises `UnusableError` if it is not the pack that was stored there."""
        return Pack(data, Origin(self.run.keys.run_id, location), self.run.manifest.version)

    def mark_outdated(self, location: Location, kinds: bytes) -> bytes:
        """Return the kinds of a pack's outcomes, with `OUTDATED` for failures that a later round runs again."""
        # A pack of the newest round, and one with values only (the common case), need no check of each element.
        if location.round == self.run.rounds.newest.number or not kinds.strip(bytes([VALUE])):
            return kinds
        first = location.first
        return bytes(
            OUTDATED if kind != VALUE and self.run.rounds.is_superseded(location.round, first + position) else kind
            for position, kind in enumerate(kinds)
        )

    def spans(self, child: int) -> Iterable[range]:
        """Return the contiguous ranges of a child's elements, without elements that a later round runs again."""
        return self.run.rounds.spans(child)

    def span_of(self, element: int) -> tuple[int, int]:
        """Return the child that owns ``element``, and the end of the contiguous range that it owns from there."""
        return self.run.rounds.span_of(element)

    def first_pack_start(self, element: int) -> int:
        """Return the smallest first index of any pack that can contain ``element``."""
        return self.run.rounds.first_pack_start(element)

    def child_of(self, element: int, up_to: int | None = None) -> int:
        """Return the child that owns an element in the last round that runs it. ``up_to`` ignores later rounds."""
        owner, position = self.run.rounds.locate(element, up_to)
        return owner.start + position // owner.chunksize

    def children_of(self, element: int) -> list[int]:
        """Return the children that own an element, one for each of its rounds."""
        return self.run.rounds.children_of(element)

    def count_outcomes(self) -> tuple[int, int]:
        """Return the number of elements with a stored value, and with any outcome. Reads the heads of all packs."""
        states = bytearray(bytes([ABSENT])) * self.run.manifest.count
        with ThreadPoolExecutor(READERS, thread_name_prefix="cloudknot-fetch") as pool:
            for page in self.list_packs(0):
                reads = [(location, submit(pool, self.kinds, location)) for location, _ in page]
                for location, read in reads:
                    for index, kind in enumerate(read.result(), location.first):
                        states[index] = min(states[index], kind)
        return states.count(VALUE), len(states) - states.count(ABSENT)

    def kinds(self, location: Location) -> bytes:
        """Return the kinds of a pack's outcomes, from its head."""
        try:
            return self.unpack(location, read_head(partial(self.read, location), location)).kinds
        except UnusableError:
            return bytes([DAMAGED]) * location.number

    def describe_jobs(self) -> list[batch.Job]:
        """Return Batch's descriptions of the jobs of the newest round, without jobs that Batch no longer knows."""
        return batch.describe_jobs(self.cloud.door, self.run.newest_job_ids)

    def newest_jobs(self) -> list[batch.Job]:
        """Return `describe_jobs` for the newest round of any session. Reads rounds of other sessions if necessary."""
        jobs = self.describe_jobs()
        # No session submits a round before the last one has ended, so a live job needs no search for others.
        if not any(job["status"] in batch.LIVE_STATES for job in jobs) and self.refresh():
            jobs = self.describe_jobs()
        return jobs

    def live_jobs(self) -> list[batch.Job]:
        """Return the jobs in the newest round of any session that have not ended or are not described by Batch yet."""
        described, newest = self.newest_jobs(), self.run.rounds.newest
        described_ids = {job["jobId"] for job in described}
        new_ids = (
            [] if _is_old(newest) else [job_id for job_id in newest.job_ids if job_id and job_id not in described_ids]
        )
        is_array = newest.children > newest.submission.jobs
        kind: batch.Job = {"arrayProperties": {}} if is_array else {}
        # Batch does not describe these yet. They count as live, so that a caller that ends the job ends them too.
        new_jobs: list[batch.Job] = [{"jobId": job_id, "status": "SUBMITTED", **kind} for job_id in new_ids]
        return [*(job for job in described if job["status"] in batch.LIVE_STATES), *new_jobs]

    def live_job_ids(self) -> list[str]:
        """Return the ids of `live_jobs`."""
        return [job["jobId"] for job in self.live_jobs()]

    def failed_dependencies(self, child: int) -> str:
        """Name the failed jobs that a child's job waited for; empty if Batch knows none."""
        owner = self.run.rounds.round_of_child(child)
        return failed_dependencies(self.cloud.door, owner.stored_choices.get("depends_on") or [], child - owner.start)

    def has_stopped(self) -> bool:
        """Return whether all jobs of the newest round have ended. Waits while jobs are being stopped."""
        for _ in range(STOP_POLLS):
            if not (live := self.live_jobs()):
                return True
            if not all(map(batch.is_stopped, live)):
                return False
            time.sleep(STOP_PAUSE)
        return False

    def poll(self, known_failed: set[int]) -> tuple[set[int], bool]:
        """Return the failed children that are not in ``known_failed``, and whether the whole job has ended."""
        newest, jobs = self.run.rounds.newest, self.describe_jobs()
        unsubmitted = newest.job_ids.count(None)
        # Batch may not describe a new job yet. An old job that it does not describe is one that it has forgotten.
        all_described = len(jobs) + unsubmitted == len(newest.job_ids) or _is_old(newest)
        ended = all(job["status"] in ENDED for job in jobs) and all_described
        self.stopped_by_hand = any(map(batch.is_stopped, jobs))
        self.states = batch.count_states(jobs) | ({batch.UNSUBMITTED: unsubmitted} if unsubmitted else {})
        self._running = _running(newest, jobs)
        if newest.submission.manifest.job_type == "independent":
            ended = ended and self._all_submitted(newest)
            numbers = {job_id: child for child, job_id in enumerate(newest.job_ids)}
            return {numbers[job["jobId"]] for job in jobs if job["status"] == "FAILED"} - known_failed, ended
        summary = jobs[0].get("arrayProperties", {}).get("statusSummary", {}) if jobs else {}
        # Children are listed only when the count of failed ones has grown, so a usual poll costs one call.
        if ended or summary.get("FAILED", 0) <= sum(child >= newest.start for child in known_failed):
            return set(), ended
        failed = batch.list_children(self.cloud.door, jobs[0]["jobId"], "FAILED")
        return {newest.start + child["arrayProperties"]["index"] for child in failed} - known_failed, ended

    def is_running(self, element: int) -> bool:
        """Return whether the child of an element was running at the last poll.

        A call lists the running children of an array at most once for each poll, and only if other children wait.
        """
        child, _ = self.span_of(element)
        if self._running is None:
            newest = self.run.rounds.newest
            # Without an answer, nothing is known to run.
            with suppress(CloudknotError):
                running = batch.list_children(self.cloud.door, newest.submitted_ids[0], "RUNNING")
                self._running = {newest.start + job["arrayProperties"]["index"] for job in running}
        return child in (self._running or ())

    def _all_submitted(self, newest: Round) -> bool:
        """Return whether no session submits more independent jobs of a round."""
        job_ids = newest.job_ids
        if None not in job_ids:
            return True
        # Another session may still be submitting them one by one, and updates the record as it does.
        newest.record.update(read_record(self.cloud, newest.submission) or {})
        return newest.job_ids == job_ids and _is_old(newest)

    def mean_seconds(self) -> float | None:
        """Return the mean seconds of a call so far, from the heads of a few packs; None without a value."""
        return mean_seconds(self.cloud, self.run.keys)

    def reason_of_waiting(self) -> str:
        """Return Batch's reason why a job of the newest round stays in RUNNABLE; empty if it gives none."""
        newest = self.run.rounds.newest
        is_array = newest.children > newest.submission.jobs
        return batch.reason_of_waiting(self.cloud.door, newest.submitted_ids, array=is_array)

    def describe(self, children: Iterable[int]) -> dict[int, batch.Job]:
        """Return Batch's descriptions of children; an empty one for a child that Batch no longer knows."""
        ids = {child: self.child_id(child) for child in children}
        jobs = {job["jobId"]: job for job in batch.describe_jobs(self.cloud.door, [i for i in ids.values() if i])}
        return {
            child: jobs.get(job_id, {}) if job_id else {"status": batch.UNSUBMITTED} for child, job_id in ids.items()
        }

    def child_id(self, child: int) -> str:
        """Return Batch's id of a child (for a plain job, the id of the job); empty if it was never submitted."""
        return self.run.rounds.round_of_child(child).child_id(child) or ""

    def place(self, index: int, child: int | None = None) -> Place:
        """Return the place of an element for its error; without ``child``, the place in its last round."""
        child = self.child_of(index) if child is None else child
        job_id = self.child_id(child) or "not submitted"
        show_log = self.cloud.command(f"logs {self.job_id} {index}")
        return Place(index, job_id, knot=self.run.keys.knot, show_log=show_log)

    def log_url(self, stream: batch.LogStream) -> str:
        """Return the address of a log stream for a browser."""
        return self.cloud.log_url(stream)


def _running(newest: Round, jobs: Sequence[batch.Job]) -> set[int] | None:
    """Return the running children of a round by its described jobs; None if these only count them."""
    if newest.submission.manifest.job_type == "independent" or newest.children == 1:
        numbers = {job_id: child for child, job_id in enumerate(newest.job_ids, newest.start)}
        return {numbers[job["jobId"]] for job in jobs if job["status"] == "RUNNING"}
    states = batch.count_states(jobs)
    if not states.get("RUNNING"):
        return set()
    # A child that has ended has no pending elements, so all pending ones run.
    is_waiting = any(states.get(state) for state in batch.LIVE_STATES if state != "RUNNING")
    return None if is_waiting else set(range(newest.start, newest.start + newest.children))


def _is_old(newest: Round) -> bool:
    """Return whether a round is so old that Batch has forgotten those of its jobs that it does not describe."""
    return datetime.now(UTC) - datetime.fromisoformat(newest.submission.manifest.created) > DESCRIBE_LAG
