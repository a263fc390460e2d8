"""JobList: the jobs of a knot as a list that is shown as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from cloudknot.aws import batch
from cloudknot.display.summaries import ROWS, html_table, safely, text_table
from cloudknot.run.jobs.glance import Glance
from cloudknot.run.jobs.job import BatchJob

HEAD = ("#", "Submitted", "Job ID", "State")


class JobList(list[BatchJob]):
    """The jobs of a knot, oldest first. It is a list, and is shown as a table of the newest jobs.

    The column ``#`` has the index: ``knot.jobs[3]``. Times are in UTC.
    """

    def __init__(self, jobs: Iterable[BatchJob] = ()) -> None:
        super().__init__(jobs)
        self._glance = Glance()

    def __repr__(self) -> str:
        return safely(lambda: text_table(HEAD, self._rows(), "No jobs."), "JobList")

    def _repr_html_(self) -> str:
        return safely(lambda: html_table(HEAD, self._rows(), "No jobs."), "JobList")

    def _rows(self) -> Sequence[tuple[str, ...]]:
        """Return a row for each job, with the states of those that are shown."""
        shown = self[-ROWS:]
        unknown = [job for job in shown if job._known_progress is None]
        ids = [job.job_id for job in unknown]
        described = self._glance.look(unknown[0]._chosen_cloud, ids) if unknown else {}
        hidden = [()] * (len(self) - len(shown))
        first = len(hidden)
        return [*hidden, *(_row(index, job, described) for index, job in enumerate(shown, first))]


def _row(index: int, job: BatchJob, described: Mapping[str, batch.Job]) -> tuple[str, ...]:
    time = job.submitted
    this_year = time.year == datetime.now(UTC).year
    return str(index), f"{time:%m-%d %H:%M}" if this_year else f"{time:%Y-%m-%d}", job.job_id, _state(job, described)


def _state(job: BatchJob, described: Mapping[str, batch.Job]) -> str:
    """Return the state of a job in a few words: ``"RUNNING 10/12, 1 failed"``; of a forgotten job nothing."""
    now = job._known_progress
    if now is not None:
        states, size = now.states, job.manifest.count
        ended, failed, cancelled = now.ended, now.failed, now.cancelled
    elif description := described.get(job.job_id):
        states = batch.count_states([description])
        failed, cancelled, size = states.get("FAILED", 0), 0, sum(states.values())
        ended = states.get("SUCCEEDED", 0) + failed
    else:
        return ""
    if ended == size:
        if cancelled:
            return f"CANCELLED, {cancelled:,} of {size:,}"
        return f"FAILED, {failed:,} of {size:,}" if failed else "SUCCEEDED"
    # The most advanced state, because Batch calls an array pending while its children run.
    live = next((state for state in reversed(batch.LIVE_STATES) if states.get(state)), "SUBMITTED")
    return f"{live} {ended:,}/{size:,}" + (f", {failed:,} failed" if failed else "")
