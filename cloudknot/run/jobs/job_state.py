"""JobState: the state of a job as a string, which also answers the subscripts of the earlier library's dict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cloudknot.aws import batch

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

FORGOTTEN = "UNKNOWN"
"""The state of a job that Batch has forgotten, if elements have no stored outcome."""


class JobState(str):
    """The state of a job in Batch, such as ``"RUNNING"``.

    It is a string in every respect. In the earlier library it was a dict, so old scripts read
    ``job.status["status"]``, ``job.status["statusReason"]`` and ``job.status["attempts"]``. These work, too.

    Parameters
    ----------
    state : str
    jobs : sequence of dict
        Batch's descriptions of the jobs, at the moment of the state.
    """

    _old: dict[str, Any]

    def __new__(cls, state: str, jobs: Sequence[batch.Job] = ()) -> JobState:
        self = super().__new__(cls, state)
        attempts = [attempt for job in jobs for attempt in job.get("attempts", ())]
        self._old = {"status": state, "statusReason": batch.reasons_of(jobs), "attempts": attempts}
        # Batch describes the children of an array job here: ``size`` and ``statusSummary``.
        if arrays := [job["arrayProperties"] for job in jobs if job.get("arrayProperties")]:
            self._old["arrayProperties"] = arrays[0]
        return self

    def __getitem__(self, key: Any) -> Any:
        """Return a character or a slice of the string, or a value of the earlier library's dict."""
        return self._old[key] if isinstance(key, str) else super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of the earlier library's dict, or the default."""
        return self._old.get(key, default)

    def keys(self) -> Iterator[str]:
        """Return the keys of the earlier library's dict, so that ``dict(job.status)`` is that dict."""
        return iter(self._old)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # A pickle or a copy needs no description of Batch.
        return str, (str(self),)


def state_of_stored(view: RunView) -> str:
    """Return the state of a job that Batch has forgotten, or does not list yet, from its stored outcomes."""
    count = view.run.manifest.count
    # A listing shows the most outcomes that there can be. Only the heads of the packs count them.
    most = sum(location.number for page in view.list_packs(0) for location, _ in page)
    values, outcomes = view.count_outcomes() if most >= count else (0, 0)
    if values == count:
        return "SUCCEEDED"
    return "SUBMITTED" if view.live_jobs() else "FAILED" if outcomes == count else FORGOTTEN
