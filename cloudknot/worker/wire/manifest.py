"""The manifest of a run, and the record of its submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypedDict


@dataclass(frozen=True)
class Manifest:
    """All that a worker, or a later session on another machine, must know of one run.

    With a ``stride``, element ``i`` of the inputs begins at byte ``i * stride``; without, the index says where.
    ``sse`` is the server-side encryption that is asked for with every object; None leaves it to the bucket.
    ``kwargs`` is the key of the keyword arguments of all elements, of ``kwargs_size`` bytes; empty without any.
    ``source`` is the URL of the run whose results are the inputs, one by one or, with ``gather``, as a list: a run of
    ``source_count`` elements in chunks of ``source_chunksize``, whose Batch job is ``source_job``.
    ``own_function`` tells that the run brings its function, in place of the image's.
    ``knot``, ``run_id``, ``function``, ``image`` and ``created`` are for people and later sessions: see `for_worker`.

    ``clobbered`` tells that the run is being deleted.

    Of a ``round`` after the first, ``todo`` is the number of its elements; an object of their indices has them. With
    ``memory_growth`` above 0, what ran out of memory is run again with so many times as much.
    """

    count: int
    chunksize: int
    starmap: bool = False
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
    clobbered: bool = False

    @property
    def children(self) -> int:
        return -(-(self.todo or self.count) // self.chunksize)

    def chunk(self, child: int) -> range:
        """The elements of one child; the last chunk may be shorter."""
        if not 0 <= child < self.children:
            raise ValueError(f"child {child} is not one of this run's {self.children} (0 to {self.children - 1})")
        first = child * self.chunksize
        return range(first, min(first + self.chunksize, self.count))

    def child_of(self, element: int) -> int:
        return element // self.chunksize

    def to_json(self, **more: object) -> str:
        """As stored; ``more`` is for those who know of it, and passed over by `from_json`."""
        return json.dumps({**asdict(self), **more}, sort_keys=True)

    def for_worker(self) -> str:
        """What a worker must know of it, as short as can be: it is among a job's variables, whose room is scarce."""
        defaults = {field.name: field.default for field in fields(self)}
        said = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return json.dumps({name: value for name, value in said.items() if name not in _FOR_PEOPLE}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest; names that a newer cloudknot added are passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


class Record(TypedDict):
    """The record of a submission. An id of None stands for an independent job that is not known to exist."""

    job_ids: list[str | None]
    jobs: int
    name: str
    job_queue: str
    job_definition: str


def submission_record(name: str, manifest: Manifest, job_ids: Sequence[str | None]) -> Record:
    """What is stored of a submission; None stands for an independent job that is not known to exist."""
    jobs = manifest.children if manifest.job_type == "independent" else 1
    return {
        "job_ids": list(job_ids),
        "jobs": jobs,
        "name": name,
        "job_queue": manifest.job_queue,
        "job_definition": manifest.job_definition,
    }


_FOR_PEOPLE = ("knot", "run_id", "function", "image", "created", "version")
