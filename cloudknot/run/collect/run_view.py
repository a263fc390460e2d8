"""RunView: all reads of S3 and Batch for one run. Its packs, the states of its children, the child of an element."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

from cloudknot.aws import batch
from cloudknot.run.collect.element_errors import Place
from cloudknot.run.collect.pack_cache import submit
from cloudknot.run.submit.dependencies import failed_dependencies
from cloudknot.run.submit.rounds import Round, Run, later_rounds
from cloudknot.run.submit.submit_job import read_record
from cloudknot.worker.wire.failure import VALUE
from cloudknot.worker.wire.keys import Location
from cloudknot.worker.wire.pack import Pack, head_size
from cloudknot.worker.wire.pack_order import Listed, oldest_first

if TYPE_CHECKING:
    from cloudknot.aws import Cloud

ENDED = ("SUCCEEDED", "FAILED")
STOP_LOOKS, STOP_PAUSE = 80, 0.5
"""Looks, and seconds between them, while children are being stopped: ECS gives them 30 s."""
READERS = 64
"""Packs that are read at the same time."""
OUTDATED = 255
"""Stands in place of a kind for a failure that does not count, because the element is run again."""
NOTE_TIME = timedelta(minutes=5)
"""Descriptions in AWS may lag behind what was just made."""


class RunView:
    """Reads S3 and Batch for one run.

    Attributes
    ----------
    cloud : Cloud
        Where the run is, with its bucket.
    run : Run
    lock : RLock
        Held by whoever adds a round, or puts another future over the rounds.
    states : mapping
        Number of children in each of Batch's states, when Batch was asked last.
    stopped_by_hand : bool
        Whether somebody had asked for the end of the job then.
    """

    def __init__(self, cloud: Cloud, run: Run) -> None:
        self.cloud, self.run = cloud, run
        self.lock = threading.RLock()
        self.states: Mapping[str, int] = {}
        self.stopped_by_hand = False

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
        """The number of the newest round that is known here; 0 is the map."""
        return self.run.rounds.newest.number

    @property
    def newest_child(self) -> int:
        """The number of the first child of the newest round."""
        return self.run.rounds.newest.start

    def refresh(self) -> bool:
        """Look for rounds that other sessions have submitted; return whether there are any."""
        with self.lock:
            newer = list(later_rounds(self.cloud, self.run.keys, self.run.rounds.newest))
            for each in newer:
                self.run.rounds.add(each)
            return bool(newer)

    def stored(self, element: int) -> Iterator[list[tuple[Location, int]]]:
        """The stored packs and their sizes, by pages, in order; all that may have ``element`` or a later one."""
        after = self.run.keys.output(self.run.rounds.first_pack_start(element), 0)
        pages = self.cloud.storage.pages(self.run.keys.outputs, after=after)
        return oldest_first(
            [Listed(self.run.keys.parse_output(each.key), each.size, each.modified) for each in page] for page in pages
        )

    def read(self, location: Location, start: int = 0, end: int | None = None) -> bytes:
        """Bytes of a pack, from ``start`` to ``end`` (not included)."""
        return self.cloud.storage.fetch(self.run.keys.output(*location), start, end)

    def open(self, location: Location, start: int, end: int | None) -> BinaryIO:
        """The same, as a file that is read as it comes."""
        return self.cloud.storage.open(self.run.keys.output(*location), start, end)

    def current(self, location: Location, kinds: bytes) -> bytes:
        """The kinds of a pack's outcomes, with `OUTDATED` for failures of elements that a later round runs again."""
        if location.round == self.run.rounds.newest.number or not kinds.strip(bytes([VALUE])):
            return kinds
        first = location.first
        return bytes(
            OUTDATED if kind != VALUE and self.run.rounds.is_superseded(location.round, first + position) else kind
            for position, kind in enumerate(kinds)
        )

    def spans(self, child: int) -> Iterable[range]:
        """The elements of a child, as consecutive ones; without those that a later round runs again."""
        return self.run.rounds.spans(child)

    def span_of(self, element: int) -> tuple[int, int]:
        """The child of an element, and the end of the consecutive elements from it on that it has, too."""
        return self.run.rounds.span_of(element)

    def begin_of(self, element: int) -> int:
        """The lowest element with which a pack may begin that has an element."""
        return self.run.rounds.first_pack_start(element)

    def child_of(self, element: int, round: int | None = None) -> int:
        """The child that has an element, in its last round, or in the last one up to one."""
        found, position = self.run.rounds.locate(element, round)
        return found.start + position // found.chunksize

    def children_of(self, element: int) -> list[int]:
        """The children that have an element, in all its rounds."""
        return self.run.rounds.children_of(element)

    def all_have_values(self) -> bool:
        """Whether a value of every element is stored, by the heads of all packs."""
        lacking = bytearray(b"\1") * self.run.manifest.count
        with ThreadPoolExecutor(READERS, thread_name_prefix="cloudknot-fetch") as pool:
            for page in self.stored(0):
                reads = [(location, submit(pool, self._kinds, location)) for location, _ in page]
                for location, read in reads:
                    for position in (n for n, kind in enumerate(read.result()) if kind == VALUE):
                        lacking[location.first + position] = 0
        return not any(lacking)

    def _kinds(self, location: Location) -> bytes:
        return Pack(self.read(location, 0, head_size(location.number))).kinds

    def describe_jobs(self) -> list[batch.Job]:
        """Batch's descriptions of the jobs that it still knows of those submitted last, as far as is known here."""
        return batch.describe_jobs(self.cloud.door, self.run.newest_job_ids)

    def newest_jobs(self) -> list[batch.Job]:
        """The same of those submitted last by any session.

        None submits again what has not ended, so others are looked for only when all that is known has.
        """
        jobs = self.describe_jobs()
        if not any(job["status"] in batch.LIVE_STATES for job in jobs) and self.refresh():
            jobs = self.describe_jobs()
        return jobs

    def live_jobs(self) -> list[batch.Job]:
        """The jobs submitted last, by any session, that have not ended; also what Batch has not taken note of yet."""
        described, newest = self.newest_jobs(), self.run.rounds.newest
        known = {job["jobId"] for job in described}
        unknown = [] if _is_old(newest) else [each for each in newest.job_ids if each and each not in known]
        is_array = newest.children > newest.submission.jobs
        kind: batch.Job = {"arrayProperties": {}} if is_array else {}
        new: list[batch.Job] = [{"jobId": job_id, "status": "SUBMITTED", **kind} for job_id in unknown]
        return [*(job for job in described if job["status"] in batch.LIVE_STATES), *new]

    def live_job_ids(self) -> list[str]:
        """The ids of `live_jobs`."""
        return [job["jobId"] for job in self.live_jobs()]

    def waited_for(self, child: int) -> str:
        """The jobs that a child's job waited for and that failed, in words; empty when none is known."""
        found = self.run.rounds.round_of_child(child)
        return failed_dependencies(self.cloud.door, found.stored_choices.get("depends_on") or [], child - found.start)

    def has_stopped(self) -> bool:
        """Whether all that was submitted last has ended; waits while it is being stopped."""
        for _ in range(STOP_LOOKS):
            if not (live := self.live_jobs()):
                return True
            if not all(map(batch.is_stopped, live)):
                return False
            time.sleep(STOP_PAUSE)
        return False

    def poll(self, known: set[int]) -> tuple[set[int], bool]:
        """The children that failed, besides those in ``known``, and whether the whole job has ended."""
        newest, jobs = self.run.rounds.newest, self.describe_jobs()
        unsubmitted = newest.job_ids.count(None)
        # A job that Batch does not tell of may be too new for that.
        is_told_whole = len(jobs) + unsubmitted == len(newest.job_ids) or _is_old(newest)
        ended = all(job["status"] in ENDED for job in jobs) and is_told_whole
        self.stopped_by_hand = any(map(batch.is_stopped, jobs))
        self.states = batch.count_states(jobs) | ({batch.UNSUBMITTED: unsubmitted} if unsubmitted else {})
        if newest.submission.manifest.job_type == "independent":
            ended = ended and self._is_submitted_whole(newest)
            numbers = {job_id: child for child, job_id in enumerate(newest.job_ids)}
            return {numbers[job["jobId"]] for job in jobs if job["status"] == "FAILED"} - known, ended
        summary = jobs[0].get("arrayProperties", {}).get("statusSummary", {}) if jobs else {}
        if ended or summary.get("FAILED", 0) <= sum(child >= newest.start for child in known):
            return set(), ended
        failed = batch.list_children(self.cloud.door, jobs[0]["jobId"], "FAILED")
        return {newest.start + child["arrayProperties"]["index"] for child in failed} - known, ended

    def _is_submitted_whole(self, newest: Round) -> bool:
        """Whether no more jobs will come: they may be being submitted, one by one, by another session."""
        known = newest.job_ids
        if None not in known:
            return True
        newest.record.update(read_record(self.cloud, newest.submission) or {})
        return newest.job_ids == known and _is_old(newest)

    def reason_of_waiting(self) -> str:
        """Batch's reason why one of the jobs stays in RUNNABLE; empty when it gives none."""
        newest = self.run.rounds.newest
        is_array = newest.children > newest.submission.jobs
        return batch.reason_of_waiting(self.cloud.door, newest.submitted_ids, array=is_array)

    def describe(self, children: Iterable[int]) -> dict[int, batch.Job]:
        """Batch's descriptions of children; an empty one where Batch knows a child no more."""
        ids = {child: self.child_id(child) for child in children}
        found = {job["jobId"]: job for job in batch.describe_jobs(self.cloud.door, [i for i in ids.values() if i])}
        return {
            child: found.get(job_id, {}) if job_id else {"status": batch.UNSUBMITTED} for child, job_id in ids.items()
        }

    def child_id(self, child: int) -> str:
        """Batch's id of a child; of a plain job, the job's own; empty if it was not submitted."""
        return self.run.rounds.round_of_child(child).child_id(child) or ""

    def place(self, index: int, child: int | None = None) -> Place:
        """Where an element runs; by default in its last round."""
        child = self.child_of(index) if child is None else child
        job_id = self.child_id(child) or "not submitted"
        return Place(index, job_id, knot=self.run.keys.knot, cloud_exists=bool(self.cloud.patience))

    def log_url(self, stream: batch.LogStream) -> str:
        """Where a person can read a log stream."""
        return self.cloud.log_url(stream)


def _is_old(newest: Round) -> bool:
    """Whether Batch has had time to take note of a job: not to know it then means to have forgotten it."""
    return datetime.now(UTC) - datetime.fromisoformat(newest.submission.manifest.created) > NOTE_TIME
