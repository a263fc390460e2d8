"""The manifest of a run, and the record of its submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict

from .documents import from_document, to_document
from .seal import FORMAT, DamagedError, NewerFormatError, numbered, seed_of


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
    knot, run_id, function, image, created : str
        For people and later sessions. `for_worker` leaves them out.
    version : int
        The format of the objects of the run. See `seal`.
    python : str
        The Python that pickled the inputs, such as ``"3.11"``. Empty in format 1.
    stride : int
        Padded bytes of each element in the inputs. 0 if there is an input index.
    kwargs, kwargs_size : str, int
        Key and bytes of the keyword arguments of all elements. Empty without any.
    source : str
        URL of the source run, the one with the results that are the inputs. Empty for stored inputs.
    source_count, source_chunksize, source_job, source_version : int, int, str, int
        Elements, elements of a child, Batch job and format of the source run.
    gather : bool
        Whether the input is the list of all results of the source run, instead of one result for each element.
    own_function : bool
        Whether the run brings its own function, in place of the image's.
    job_type, job_queue, job_definition : str
        The submission to Batch. ``job_type`` is ``"array"`` or ``"independent"``.
    sse : str or None
        Server-side encryption that is requested for every object. None leaves it to the bucket.
    owner : str
        Number of the AWS account that owns the bucket. Empty stands for the account of the job.
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
    source_version: int = 1
    gather: bool = False
    own_function: bool = False
    job_type: str = "array"
    job_queue: str = ""
    job_definition: str = ""
    # The default is for manifests of format 1 and for short forms of them.
    version: int = 1
    python: str = ""
    sse: str | None = None
    # Here and not found by the job itself, because a job may be unable to reach STS.
    owner: str = ""
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

    @property
    def is_sealed(self) -> bool:
        """Whether the objects of the run have checksums."""
        return self.version > 1

    def to_document(self, key: str, **more: object) -> bytes:
        """Return the stored form for the object ``key``. ``more`` adds fields that `from_document` ignores."""
        return to_document({**asdict(self), **more}, key)

    def for_worker(self) -> str:
        """Return the shortest form that a worker can read."""
        # It is a variable of the job, and SubmitJob limits all container overrides together to 8,192 characters.
        defaults = {field.name: field.default for field in fields(self)}
        changed = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        return json.dumps({name: value for name, value in changed.items() if name not in _FOR_PEOPLE}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read the form that `for_worker` returns. Raises `DamagedError` if the text is no manifest."""
        try:
            stored = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DamagedError("it is not JSON") from error
        if not isinstance(stored, dict):
            raise DamagedError("it is not a manifest")
        return cls._from_fields(stored)

    @classmethod
    def from_document(cls, data: bytes, key: str) -> Manifest:
        """Read the stored form of the object ``key``.

        Raises
        ------
        DamagedError
            The object is not the manifest that was stored under this key.
        NewerFormatError
            A newer cloudknot stored it.
        """
        return cls._from_fields(from_document(data, key))

    @classmethod
    def _from_fields(cls, stored: dict[str, Any]) -> Manifest:
        # A cloudknot of the same format may have stored further names. They are ignored.
        known = {field.name: field for field in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        for name, value in values.items():
            if not _fits(value, known[name].type):
                raise DamagedError(f"its field {name} is wrong")
        if not {"count", "chunksize"} <= values.keys() or values["chunksize"] < 1 or values["count"] < 1:
            raise DamagedError("its number of elements is missing")
        return cls(**values)

    def check_version(self) -> None:
        """Raise `NewerFormatError` if a newer cloudknot made the run."""
        if self.version > FORMAT:
            raise NewerFormatError(self.version)


_TYPES: dict[object, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "float": (int, float),
    "str | None": (str, type(None)),
}


def _fits(value: object, kind: object) -> bool:
    """Return whether a value has the type of a field."""
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def input_seed(run_id: str) -> int:
    """Return the seed for the inputs of a run. Each element has a number for its own, see `seal.numbered`."""
    return seed_of(f"{run_id}/inputs")


def todo_seed(run_id: str, round: int) -> int:
    """Return the seed for the elements of a later round."""
    return seed_of(f"{run_id}/todo.{round}")


def function_seed(run_id: str) -> int:
    """Return the seed for the own function of a run."""
    return seed_of(f"{run_id}/function")


KEYWORD_SEED = numbered(seed_of("kwargs"), 0)
"""The seed for keyword arguments. Several runs share them, and their key is the digest of their content."""


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


def record_from_document(data: bytes, key: str) -> Record:
    """Read the record that is stored as the object ``key``.

    Raises
    ------
    DamagedError
        The object is not the record that was stored under this key.
    NewerFormatError
        A newer cloudknot stored it.
    """
    stored: Any = from_document(data, key)
    texts = [stored.get(name) for name in ("name", "job_queue", "job_definition")]
    job_ids, jobs = stored.get("job_ids"), stored.setdefault("jobs", 1)
    are_ids = isinstance(job_ids, list) and all(job_id is None or isinstance(job_id, str) for job_id in job_ids)
    if not (are_ids and all(isinstance(text, str) for text in texts) and type(jobs) is int and len(job_ids) <= jobs):
        raise DamagedError("it is not a record of cloudknot")
    for name in ("format", "checksum"):
        stored.pop(name, None)
    record: Record = stored
    return record


_FOR_PEOPLE = ("knot", "run_id", "function", "image", "created")
