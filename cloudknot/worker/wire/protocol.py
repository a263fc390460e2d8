"""The wire: object keys, environment names, the manifest and the index of the inputs.

Client and worker both import this module. It does no I/O and imports the standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

RUNS = "cloudknot.jobs"
SHARED = "shared"
"""The folder, beside those of a knot's runs, of what several runs read."""
SHARED_OBJECT = "object"
"""Its name; beside it are the marks of who uses it."""
MANIFEST_VARIABLE = "CLOUDKNOT_MANIFEST"
CHILD_VARIABLE = "CLOUDKNOT_CHILD"
TRY_AGAIN = 214
"""Exit code that asks Batch for another attempt; one that programs do not use, as they do 75, 1 to 127 or 128 and a
signal."""
COMMAND = ("python", "-m", "cloudknot_worker")

_OFFSET = struct.Struct("<Q")

OFFSET_SIZE = _OFFSET.size


class Location(NamedTuple):
    """Which pack: the first element in it, how many, and the round of the run that stored it (0 is the map's own)."""

    first: int
    number: int
    round: int = 0


@dataclass(frozen=True)
class RunKeys:
    """Where the objects of one run are in its bucket.

    ``prefix`` is ``cloudknot.run.jobs.history/<knot>/<run id>``.
    """

    bucket: str
    prefix: str

    @classmethod
    def of(cls, bucket: str, knot: str, run_id: str) -> RunKeys:
        return cls(bucket, f"{RUNS}/{knot}/{run_id}")

    @classmethod
    def parse(cls, url: str) -> RunKeys:
        """Read ``s3://bucket/prefix``."""
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket or not prefix.strip("/"):
            raise ValueError(f"{url!r} is not of the form s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"))

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def knot(self) -> str:
        return self.prefix.split("/")[-2]

    @property
    def run_id(self) -> str:
        return self.prefix.split("/")[-1]

    @property
    def manifest(self) -> str:
        return f"{self.prefix}/manifest.json"

    @property
    def inputs(self) -> str:
        return f"{self.prefix}/inputs"

    @property
    def index(self) -> str:
        return f"{self.prefix}/inputs.index"

    @property
    def submission(self) -> str:
        return self.submission_of(0)

    def job_name(self, round: int = 0) -> str:
        """Batch's name of the jobs of one round."""
        return f"{self.knot}-{self.run_id}" + (f"-{round}" if round else "")

    def submission_of(self, round: int) -> str:
        """Key of the record of one round's submission."""
        return f"{self.prefix}/submission{f'.{round}' if round else ''}.json"

    def started_of(self, round: int) -> str:
        """Key of the same record, as the first child makes it; it names no other independent job."""
        return f"{self.prefix}/started{f'.{round}' if round else ''}.json"

    @property
    def rounds(self) -> str:
        """Prefix of what is stored of the rounds after the first."""
        return f"{self.prefix}/round."

    def round(self, number: int) -> str:
        """Key of the manifest of a round after the first."""
        return f"{self.rounds}{number}.json"

    def round_of(self, key: str) -> int:
        """The number of the round that a round's manifest is of."""
        return int(key[len(self.rounds) :].removesuffix(".json"))

    def todo(self, round: int) -> str:
        """Key of the elements that a round after the first runs: sorted indices, as the index has its offsets."""
        return f"{self.prefix}/todo.{round}"

    @property
    def function(self) -> str:
        return f"{self.prefix}/function"

    @property
    def outputs(self) -> str:
        return f"{self.prefix}/outputs/"

    def output(self, first: int, count: int, round: int = 0) -> str:
        """Key of a pack that holds elements ``first`` to ``first + count - 1``, stored by a child of that round."""
        return f"{self.outputs}{first:09d}-{count}{f'.{round}' if round else ''}"

    def parse_output(self, key: str) -> Location:
        """What an output key names."""
        first, _, rest = key[len(self.outputs) :].partition("-")
        count, _, round = rest.partition(".")
        return Location(int(first), int(count), int(round or 0))


def shared_key(knot: str, digest: str) -> str:
    """Key of an object that runs of a knot share, in a folder whose name is the digest of its content."""
    return f"{RUNS}/{knot}/{SHARED}/{digest}/{SHARED_OBJECT}"


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

    def to_json(self, **more: Any) -> str:
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


def submission_record(name: str, manifest: Manifest, job_ids: Sequence[str | None]) -> dict[str, Any]:
    """What is stored of a submission; None stands for an independent job that is not known to exist."""
    jobs = manifest.children if manifest.job_type == "independent" else 1
    about = {"name": name, "job_queue": manifest.job_queue, "job_definition": manifest.job_definition}
    return {"job_ids": list(job_ids), "jobs": jobs, **about}


_FOR_PEOPLE = ("knot", "run_id", "function", "image", "created", "version")


def pack_offset(offset: int) -> bytes:
    """One entry of the input index: where an element's pickle starts."""
    return _OFFSET.pack(offset)


def unpack_offsets(data: bytes) -> list[int]:
    return [offset for (offset,) in _OFFSET.iter_unpack(data)]


def attempt_number(environment: Mapping[str, str]) -> int:
    """Which attempt of its job a process is, from 1; 0 outside Batch."""
    return int(environment.get("AWS_BATCH_JOB_ATTEMPT") or 0)


def child_index(environment: Mapping[str, str]) -> int:
    """Which child of its run a process is, from the variables that Batch sets."""
    return int(environment.get("AWS_BATCH_JOB_ARRAY_INDEX") or environment.get(CHILD_VARIABLE) or 0)
