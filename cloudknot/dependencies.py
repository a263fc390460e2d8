"""Jobs that a map waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloudknot.errors import CloudknotInputError

MAX_DEPENDENCIES = 20
"""Dependencies of a job (Batch user guide, "Service quotas")."""


def job_ids_of(jobs: Any) -> list[str]:
    """The Batch job ids of one or several futures, jobs or ids.

    Raises
    ------
    CloudknotInputError
        One of them is none of these, or they are more than Batch takes.
    """
    found: list[str] = []
    several = isinstance(jobs, Iterable) and not isinstance(jobs, str) and not hasattr(jobs, "job")
    for item in jobs if several else [jobs]:
        job = getattr(item, "job", item)
        if isinstance(item, str):
            found.append(item)
        elif hasattr(job, "job_ids"):
            found += job.job_ids
        elif not hasattr(item, "job"):
            raise CloudknotInputError(f"depends_on takes futures of `map`, jobs or job ids, not {item!r}.")
    if len(found) > MAX_DEPENDENCIES:
        raise CloudknotInputError(
            f"depends_on names {len(found)} Batch jobs, and a job can wait for {MAX_DEPENDENCIES} at most."
        )
    return found
