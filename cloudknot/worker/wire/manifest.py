"""The manifest of a run, and the record of its submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypedDict


@dataclass(frozen=True)
class Manifest:
    """The description of a run or a round. A worker or a later session on another machine needs nothing else.

    Attributes
    ----------
    count, chunksize : int
        Elements of the run, and elements of a child.
    starmap : bool
        Whether each element is a sequence of arguments.
    attempts : int
        Attempts of a child if the function fails.
    knot, run_id, function, image, created, version : str, int
        For people and later sessions. `for_worker` leaves them out.
    stride : int
        Padded bytes of each element in the inputs. 0 if there is an input index.
    kwargs, kwargs_size : str, int
        Key and bytes of the keyword arguments of all elements. Empty without any.
    source : str
        URL of the source run, the one with the results that are the inputs. Empty for stored inputs.
    source_count, source_chunksize, source_job : int, int, str
        Elements, elements of a child, and Batch job of the source run.
    gather : bool
        Whether the input is the list of all results of the source run, instead of one result for each element.
    own_function : bool
        Whether the run brings its own function, in place of the image's.
    job_type, job_queue, job_definition : str
        The submission to Batch. ``job_type`` is ``"array"`` or ``"independent"``.
    sse : str or None
        Server-side encryption that is requested for every object. None leaves it to the bucket.
    round : int
        0 for the map itself, from 1 for its retries.
    todo : int
        Elements of a round after the first. Their indices are a separate object.
    memory_growth : float
        Factor for the memory of elements that ran out of it. 0 turns memory growth off.
    clobbered : bool
        Whether the run is being deleted.
    """

    count: int
    chunksize: int
    starmap: bool = False
    # Here and not in the job definition, so that retries= of a map needs no job definition of its own.
    attempts: int = 1
    knot: str = ""
    run_id: str = ""
    function: str = ""
    image: str = ""
    created: str = ""
    stride: int = 0
    kwargs: str = ""
    kwargs_size: int = 0
    source: str = ""
    source_count: int = 0
    source_chunksize: int = 0
    source_job: str = ""
    gather: bool = False
    own_function: bool = False
    job_type: str = "array"
    job_queue: str = ""
    job_definition: str = ""
    version: int = 1
    sse: str | None = None
    round: int = 0
    todo: int = 0
    memory_growth: float = 0.0
    # Set first, while the manifest is deleted last, so that a half-deleted run is never mistaken for a complete one.
    clobbered: bool = False

    @property
    def children(self) -> int:
        """The number of child jobs."""
        return -(-(self.todo or self.count) // self.chunksize)

    def chunk(self, child: int) -> range:
        """Return the elements of a child. The last chunk may be shorter."""
        if not 0 <= child < self.children:
            raise ValueError(
                f"Child {child} does not exist. This run has {self.children} children, from 0 to {self.children - 1}."
            )
        first = child * self.chunksize
        return range(first, min(first + self.chunksize, self.count))

    def child_of(self, element: int) -> int:
        """Return the child of an element, in the first round."""
        return element // self.chunksize

    def to_json(self, **more: object) -> str:
        """Return the stored form. ``more`` adds keys that `from_json` ignores."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)

    def for_worker(self) -> str:
        """Return the shortest form that a worker can read."""
        # It is a variable of the job, and SubmitJob limits all container overrides together to 8,192 characters.
        defaults = {field.name: field.default for field in fields(self)}
        changed = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return json.dumps({name: value for name, value in changed.items() if name not in _FOR_PEOPLE}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest."""
        # A newer cloudknot may have stored further names. They are ignored.
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in names})


class Record(TypedDict):
    """The record of a submission.

    An id of None stands for an independent job that may not exist.
    """

    job_ids: list[str | None]
    jobs: int
    name: str
    job_queue: str
    job_definition: str


def submission_record(name: str, manifest: Manifest, job_ids: Sequence[str | None]) -> Record:
    """Return the record of a submission with these job ids."""
    jobs = manifest.children if manifest.job_type == "independent" else 1
    return {
        "job_ids": list(job_ids),
        "jobs": jobs,
        "name": name,
        "job_queue": manifest.job_queue,
        "job_definition": manifest.job_definition,
    }


_FOR_PEOPLE = ("knot", "run_id", "function", "image", "created", "version")
