"""The wire: object keys, environment names, the manifest and the envelope that results travel in.

Client and worker both import this module. It does no I/O and imports the standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from typing import Any, NamedTuple, overload

RUNS = "cloudknot.jobs"
SHARED = "shared"
"""The folder, beside those of a knot's runs, of what several runs read."""
MANIFEST_VARIABLE = "CLOUDKNOT_MANIFEST"
CHILD_VARIABLE = "CLOUDKNOT_CHILD"
TRY_AGAIN = 75  # Exit code that asks Batch for another attempt: the user's own are not used up.
COMMAND = ("python", "-m", "cloudknot_worker")

_OFFSET = struct.Struct("<Q")
_HEADER = struct.Struct("<4sI")
_RECORD = struct.Struct("<BxxxxxxxddQQ")
_LENGTH = struct.Struct("<I")
_MAGIC = b"ckp1"

OFFSET_SIZE = _OFFSET.size


class Location(NamedTuple):
    """Which pack: the first element in it, how many, and the round of the run that stored it (0 is the map's own)."""

    first: int
    number: int
    round: int = 0


@dataclass(frozen=True)
class RunKeys:
    """Where the objects of one run are in its bucket.

    ``prefix`` is ``cloudknot.jobs/<knot>/<run id>``.
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

    def submission_of(self, round: int) -> str:
        """Key of the record of one round's submission."""
        return f"{self.prefix}/submission{f'.{round}' if round else ''}.json"

    def todo(self, round: int) -> str:
        """Key of the elements that a round after the first runs: sorted indices, as the index has its offsets."""
        return f"{self.prefix}/todo.{round}"

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
    """Key of an object that runs of a knot share; its name is the digest of its content."""
    return f"{RUNS}/{knot}/{SHARED}/{digest}"


@dataclass(frozen=True)
class Manifest:
    """All that a worker, or a later session on another machine, must know of one run.

    With a ``stride``, element ``i`` of the inputs begins at byte ``i * stride``; without, the index says where.
    ``sse`` is the server-side encryption that is asked for with every object; None leaves it to the bucket.
    ``kwargs`` is the key of the keyword arguments of all elements, of ``kwargs_size`` bytes; empty without any.
    ``knot``, ``run_id``, ``function``, ``image`` and ``created`` are for people and later sessions: see `for_worker`.
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
    job_type: str = "array"
    job_queue: str = ""
    job_definition: str = ""
    version: int = 1
    sse: str | None = None

    @property
    def children(self) -> int:
        return -(-self.count // self.chunksize)

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


VALUE, RAISED, EXITED, UNPICKLABLE, NOT_LOADED = range(5)


@dataclass(frozen=True)
class Failure:
    """Why an element has no value.

    ``pickled`` is the exception itself, or the arguments of `rebuilt` where it does not unpickle, or empty when
    neither can travel; the other fields are always there.
    """

    kind: int
    type: str
    message: str
    traceback: str
    exit_code: int | None = None
    pickled: bytes = b""

    def to_bytes(self) -> bytes:
        about = asdict(self)
        del about["pickled"]
        text = json.dumps(about).encode()
        return _LENGTH.pack(len(text)) + text + self.pickled

    @classmethod
    def from_bytes(cls, data: bytes) -> Failure:
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        about: dict[str, Any] = json.loads(data[_LENGTH.size : end])
        return cls(**about, pickled=data[end:])


def rebuilt(cls: type[BaseException], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> BaseException:
    """An exception as it was, without its ``__init__``, which may take other arguments than ``args``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


@dataclass(frozen=True)
class Envelope:
    """One element's outcome on the wire.

    ``payload`` is the pickled value when ``kind`` is ``VALUE``, otherwise a `Failure`. ``wall`` and ``cpu`` are
    seconds, ``peak`` is the process's peak memory in bytes.
    """

    kind: int
    payload: bytes
    wall: float
    cpu: float
    peak: int

    @property
    def ok(self) -> bool:
        return self.kind == VALUE


def pack(envelopes: Iterable[Envelope]) -> bytes:
    """Join the envelopes of consecutive elements into one object."""
    items = list(envelopes)
    ends = accumulate(len(item.payload) for item in items)
    records = [_RECORD.pack(e.kind, e.wall, e.cpu, e.peak, end) for e, end in zip(items, ends, strict=True)]
    return b"".join([_HEADER.pack(_MAGIC, len(items)), *records, *(e.payload for e in items)])


def head_size(count: int) -> int:
    """Bytes of a pack of ``count`` elements before the first payload."""
    return _HEADER.size + count * _RECORD.size


class Pack(Sequence[Envelope]):
    """What `pack` made, read back one envelope at a time.

    The first `head_size` bytes alone tell everything but the payloads.
    """

    def __init__(self, data: bytes) -> None:
        magic, self._count = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("this is not a pack of cloudknot results")
        self._data = data
        self._payloads = head_size(self._count)

    @property
    def kinds(self) -> bytes:
        """The kind of every envelope, one byte each."""
        return self._data[_HEADER.size : self._payloads : _RECORD.size]

    def span(self, position: int) -> tuple[int, int]:
        """Where a payload begins and ends in the pack."""
        start = self._record(position - 1)[-1] if position else 0
        return self._payloads + start, self._payloads + self._record(position)[-1]

    def spans(self) -> Iterator[tuple[int, int]]:
        """`span` of every position, in order."""
        start = self._payloads
        for *_, end in _RECORD.iter_unpack(memoryview(self._data)[_HEADER.size : self._payloads]):
            yield start, (start := self._payloads + end)

    def __len__(self) -> int:
        return int(self._count)

    @overload
    def __getitem__(self, position: int) -> Envelope: ...
    @overload
    def __getitem__(self, position: slice) -> list[Envelope]: ...
    def __getitem__(self, position: int | slice) -> Envelope | list[Envelope]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(f"element {position} of a pack of {len(self)}")
        kind, wall, cpu, peak, end = self._record(position)
        start = self._record(position - 1)[-1] if position else 0
        return Envelope(kind, self._data[self._payloads + start : self._payloads + end], wall, cpu, peak)

    def _record(self, position: int) -> tuple[Any, ...]:
        return _RECORD.unpack_from(self._data, _HEADER.size + position * _RECORD.size)


def pack_offset(offset: int) -> bytes:
    """One entry of the input index: where an element's pickle starts."""
    return _OFFSET.pack(offset)


def unpack_offsets(data: bytes) -> list[int]:
    return [offset for (offset,) in _OFFSET.iter_unpack(data)]


def child_index(environment: Mapping[str, str]) -> int:
    """Which child of its run a process is, from the variables that Batch sets."""
    return int(environment.get("AWS_BATCH_JOB_ARRAY_INDEX") or environment.get(CHILD_VARIABLE) or 0)
