"""The submission of a simulated map: cloudknot's own code decides chunk size, children and array.

`cloudknot.run.submit` runs unchanged. Its S3 is a dictionary in memory, with one earlier map in cloudknot's format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cloudknot.aws.cloud import Cloud
from cloudknot.aws.s3.storage import StoredObject
from cloudknot.errors import ResourceDoesNotExistException
from cloudknot.options.choices import MapOptions
from cloudknot.run.submit import start_run
from cloudknot.run.submit.inputs import StoredInputs
from cloudknot.run.submit.submit_job import Submission, array_request
from cloudknot.worker.wire.failure import VALUE
from cloudknot.worker.wire.keys import Location, RunKeys
from cloudknot.worker.wire.manifest import Manifest
from cloudknot.worker.wire.pack import Envelope, Origin, pack

KNOT = "heat"
IMAGE = "heat:model"
THEN, NOW = "20180101T000000000000-000000", "20180101T010000000000-000000"
"""Ids of the earlier map and of the new one."""


class MemoryStorage:
    """The part of `cloudknot.aws.s3.storage.Storage` that the chunking code reads."""

    bucket = "model"

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, body: bytes) -> None:
        self._objects[key] = body

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if key not in self._objects:
            raise ResourceDoesNotExistException(key)
        return self._objects[key][start:end]

    def folders(self, prefix: str) -> list[str]:
        inside = (key[len(prefix) :] for key in self._objects if key.startswith(prefix))
        return sorted({rest.partition("/")[0] for rest in inside if "/" in rest})

    def pages(self, prefix: str, after: str = "") -> Iterator[list[StoredObject]]:
        stored = datetime(2018, 1, 1, tzinfo=UTC)
        keys = sorted(key for key in self._objects if key.startswith(prefix) and key > after)
        yield [StoredObject(key, len(self._objects[key]), stored) for key in keys]


@dataclass(frozen=True)
class MemoryCloud:
    """A cloud with nothing but objects."""

    storage: MemoryStorage
    shortest_child: float = Cloud().shortest_child
    """As on AWS."""


@dataclass(frozen=True)
class Plan:
    """A map as cloudknot would submit it."""

    manifest: Manifest

    @cached_property
    def children(self) -> int:
        """The number of children in the SubmitJob request. A request without an array is one plain job."""
        keys = RunKeys.of(MemoryStorage.bucket, KNOT, NOW)
        request: Any = array_request(Submission(keys, self.manifest), ())
        return int(request.get("arrayProperties", {"size": 1})["size"])

    @cached_property
    def chunks(self) -> list[range]:
        """The elements of each child."""
        return [self.manifest.chunk(child) for child in range(self.children)]


def plan(
    count: int,
    chunksize: int | str | None = None,
    *,
    max_vcpus: int = 256,
    vcpus: float = 1.0,
    measured: float | None = None,
) -> Plan:
    """Return the plan of a map.

    Parameters
    ----------
    count : int
        Number of elements.
    chunksize : int, "auto" or None
        The choice of the user, as for `cloudknot.Knot.map`.
    max_vcpus, vcpus : int, float
        vCPUs of the knot and of a job.
    measured : float, optional
        Seconds of an element in an earlier map. None if there is no earlier map.
    """
    cloud: Any = MemoryCloud(MemoryStorage())
    if measured is not None:
        _store_earlier_map(cloud.storage, measured)
    target = replace(TARGET, max_vcpus=max_vcpus, vcpus=vcpus)
    options = MapOptions.of_map(chunksize=chunksize)
    keys = RunKeys.of(MemoryStorage.bucket, KNOT, NOW)
    size = start_run._chunksize(cloud, keys, target, count, options, None)
    return Plan(start_run._manifest(keys, target, StoredInputs(count, 0), options, size))


TARGET = start_run.Target(
    knot=KNOT,
    function="solve_heateq_2d",
    image=IMAGE,
    job_queue="queue",
    job_definition="definition",
    attempts=1,
    max_vcpus=256,
    tags={},
)


def _store_earlier_map(storage: MemoryStorage, seconds: float) -> None:
    """Store a map of one element, with the time that it took."""
    keys = RunKeys.of(storage.bucket, KNOT, THEN)
    storage.put(keys.manifest, Manifest(count=1, chunksize=1, image=IMAGE).to_document(keys.manifest))
    origin = Origin(THEN, Location(0, 1))
    storage.put(keys.output(0, 1), pack([Envelope(VALUE, b"", seconds, seconds, 0)], origin))
