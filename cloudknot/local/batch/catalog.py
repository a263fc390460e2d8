"""Job definitions, queues and compute environments, read through the embedded cloud's own Batch API.

The answers are cached until `Catalog.forget`. The server calls that around every request that may change Batch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cloudknot.local.batch.records import Queue, TimeLimit
from cloudknot.local.wsgi import ClientException

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import (
        ComputeEnvironmentDetailTypeDef,
        ComputeEnvironmentOrderTypeDef,
        DescribeComputeEnvironmentsResponseTypeDef,
        DescribeJobDefinitionsResponseTypeDef,
        DescribeJobQueuesResponseTypeDef,
        JobDefinitionTypeDef,
        JobQueueDetailTypeDef,
    )

Entry = TypeVar("Entry")
Describe = Callable[..., Any]
"""``describe(operation, **arguments)``: one call of the Batch API."""


class Catalog:
    """The resources of Batch, by name or ARN.

    Parameters
    ----------
    describe : callable
        Makes a call of the Batch API, for example ``describe("DescribeJobQueues", jobQueues=["q"])``.
    """

    def __init__(self, describe: Describe) -> None:
        self._describe = describe
        # Each SubmitJob needs a definition and a queue. Without a cache, a map of single jobs would ask for each job.
        self._lock = threading.Lock()
        self._definitions: dict[str, JobDefinitionTypeDef] = {}
        self._queues: dict[str, Queue] = {}
        # Counts the calls of forget. A read that began before the last one may be out of date.
        self._generation = 0

    def forget(self) -> None:
        """Empty the cache. The answer to a read in progress is not cached either."""
        with self._lock:
            self._definitions.clear()
            self._queues.clear()
            self._generation += 1

    def definition(self, reference: str) -> JobDefinitionTypeDef:
        """Return the active job definition for a name (its latest revision), a ``name:revision`` or an ARN."""
        return self._cached(self._definitions, reference, self._read_definition)

    def queue(self, reference: str) -> Queue:
        """Return the enabled queue for a name or ARN, with the largest of its compute environments."""
        return self._cached(self._queues, reference, self._read_queue)

    def _cached(self, cache: dict[str, Entry], reference: str, read: Callable[[str], Entry]) -> Entry:
        with self._lock:
            generation, entry = self._generation, cache.get(reference)
        if entry is not None:
            return entry
        # The lock is not held during the read. If `forget` comes in between, the answer is used once, but not cached.
        entry = read(reference)
        with self._lock:
            if generation == self._generation:
                cache[reference] = entry
        return entry

    def _read_definition(self, reference: str) -> JobDefinitionTypeDef:
        name, _, revision = reference.rpartition("/")[2].partition(":")
        answer: DescribeJobDefinitionsResponseTypeDef
        answer = self._describe("DescribeJobDefinitions", jobDefinitionName=name, status="ACTIVE")
        revisions = [
            definition
            for definition in answer["jobDefinitions"]
            if revision in ("", str(definition["revision"])) and definition["jobDefinitionName"] == name
        ]
        if not revisions:
            raise ClientException(f"JobDefinition, {reference}, does not exist")
        return max(revisions, key=lambda definition: definition["revision"])

    def _read_queue(self, reference: str) -> Queue:
        answer: DescribeJobQueuesResponseTypeDef = self._describe("DescribeJobQueues", jobQueues=[reference])
        if not answer["jobQueues"]:
            raise ClientException(f"Job queue {reference} does not exist")
        queue = answer["jobQueues"][0]
        if queue["state"] != "ENABLED":
            raise ClientException(f"Job queue {reference} is not enabled")
        name, vcpus = self._largest_environment(queue["computeEnvironmentOrder"])
        return Queue(queue["jobQueueName"], queue["jobQueueArn"], queue["priority"], name, vcpus, _time_limits(queue))

    def _largest_environment(self, order: list[ComputeEnvironmentOrderTypeDef]) -> tuple[str, float]:
        arns = [entry["computeEnvironment"] for entry in sorted(order, key=lambda entry: entry["order"])]
        answer: DescribeComputeEnvironmentsResponseTypeDef
        answer = self._describe("DescribeComputeEnvironments", computeEnvironments=arns)
        sizes = {
            environment["computeEnvironmentName"]: _max_vcpus(environment)
            for environment in answer["computeEnvironments"]
        }
        if not sizes:
            raise ClientException("The job queue has no compute environment")
        name = max(sizes, key=lambda name: sizes[name])
        return name, sizes[name]


def _max_vcpus(environment: ComputeEnvironmentDetailTypeDef) -> float:
    # An unmanaged compute environment has no computeResources, and no limit that Batch knows.
    return environment["computeResources"].get("maxvCpus", math.inf) if "computeResources" in environment else math.inf


def _time_limits(queue: JobQueueDetailTypeDef) -> tuple[TimeLimit, ...]:
    actions = queue.get("jobStateTimeLimitActions") or ()
    return tuple(TimeLimit(action["reason"], float(action["maxTimeSeconds"])) for action in actions)
