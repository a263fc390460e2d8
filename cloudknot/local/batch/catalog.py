"""Job definitions, queues and compute environments, looked up through the cloud's own Batch API.

What was looked up is kept until `Catalog.forget`, which the server calls around every request that may change it.
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

Found = TypeVar("Found")
Describe = Callable[..., Any]
"""``describe(operation, **arguments)``: one call of the Batch API."""


class Catalog:
    """Batch's resources, by name or ARN.

    Parameters
    ----------
    describe : callable
        Makes a call to the Batch API, for example ``describe("DescribeJobQueues", jobQueues=["q"])``.
    """

    def __init__(self, describe: Describe) -> None:
        self._describe = describe
        self._lock = threading.Lock()
        self._definitions: dict[str, JobDefinitionTypeDef] = {}
        self._queues: dict[str, Queue] = {}
        self._generation = 0

    def forget(self) -> None:
        """Look everything up again from now on; a look-up already under way is not kept."""
        with self._lock:
            self._definitions.clear()
            self._queues.clear()
            self._generation += 1

    def definition(self, reference: str) -> JobDefinitionTypeDef:
        """The active job definition of a name (its latest revision), a ``name:revision`` or an ARN."""
        return self._remembered(self._definitions, reference, self._find_definition)

    def queue(self, reference: str) -> Queue:
        """The enabled queue of a name or ARN, with the largest of its compute environments."""
        return self._remembered(self._queues, reference, self._find_queue)

    def _remembered(self, kept: dict[str, Found], reference: str, find: Callable[[str], Found]) -> Found:
        with self._lock:
            generation, known = self._generation, kept.get(reference)
        if known is not None:
            return known
        found = find(reference)
        with self._lock:
            if generation == self._generation:
                kept[reference] = found
        return found

    def _find_definition(self, reference: str) -> JobDefinitionTypeDef:
        name, _, revision = reference.rpartition("/")[2].partition(":")
        answer: DescribeJobDefinitionsResponseTypeDef
        answer = self._describe("DescribeJobDefinitions", jobDefinitionName=name, status="ACTIVE")
        found = [
            definition
            for definition in answer["jobDefinitions"]
            if revision in ("", str(definition["revision"])) and definition["jobDefinitionName"] == name
        ]
        if not found:
            raise ClientException(f"JobDefinition, {reference}, does not exist")
        return max(found, key=lambda definition: definition["revision"])

    def _find_queue(self, reference: str) -> Queue:
        answer: DescribeJobQueuesResponseTypeDef = self._describe("DescribeJobQueues", jobQueues=[reference])
        if not answer["jobQueues"]:
            raise ClientException(f"Job queue {reference} does not exist")
        found = answer["jobQueues"][0]
        if found["state"] != "ENABLED":
            raise ClientException(f"Job queue {reference} is not enabled")
        name, vcpus = self._environment(found["computeEnvironmentOrder"])
        return Queue(found["jobQueueName"], found["jobQueueArn"], found["priority"], name, vcpus, _time_limits(found))

    def _environment(self, order: list[ComputeEnvironmentOrderTypeDef]) -> tuple[str, float]:
        arns = [entry["computeEnvironment"] for entry in sorted(order, key=lambda entry: entry["order"])]
        answer: DescribeComputeEnvironmentsResponseTypeDef
        answer = self._describe("DescribeComputeEnvironments", computeEnvironments=arns)
        sizes = {one["computeEnvironmentName"]: _max_vcpus(one) for one in answer["computeEnvironments"]}
        if not sizes:
            raise ClientException("The job queue has no compute environment")
        name = max(sizes, key=lambda name: sizes[name])
        return name, sizes[name]


def _max_vcpus(environment: ComputeEnvironmentDetailTypeDef) -> float:
    return environment["computeResources"].get("maxvCpus", math.inf) if "computeResources" in environment else math.inf


def _time_limits(queue: JobQueueDetailTypeDef) -> tuple[TimeLimit, ...]:
    actions = queue.get("jobStateTimeLimitActions") or ()
    return tuple(TimeLimit(action["reason"], float(action["maxTimeSeconds"])) for action in actions)
