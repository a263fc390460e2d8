"""Job definitions, queues and compute environments, looked up through the cloud's own Batch API.

What was looked up is kept until `Catalog.forget`, which the server calls around every request that may change it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cloudknot.local.batch.records import Queue, TimeLimit
from cloudknot.local.wsgi import ClientException

Describe = Callable[..., dict[str, Any]]
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
        self._known: dict[tuple[str, str], Any] = {}
        self._generation = 0

    def forget(self) -> None:
        """Look everything up again from now on; a look-up already under way is not kept."""
        with self._lock:
            self._known.clear()
            self._generation += 1

    def definition(self, reference: str) -> Mapping[str, Any]:
        """The active job definition of a name (its latest revision), a ``name:revision`` or an ARN."""
        found: Mapping[str, Any] = self._remembered("definition", reference, self._find_definition)
        return found

    def queue(self, reference: str) -> Queue:
        """The enabled queue of a name or ARN, with the largest of its compute environments."""
        found: Queue = self._remembered("queue", reference, self._find_queue)
        return found

    def _remembered(self, kind: str, reference: str, find: Callable[[str], Any]) -> Any:
        with self._lock:
            generation, known = self._generation, self._known.get((kind, reference))
        if known is not None:
            return known
        found = find(reference)
        with self._lock:
            if generation == self._generation:
                self._known[kind, reference] = found
        return found

    def _find_definition(self, reference: str) -> Mapping[str, Any]:
        name, _, revision = reference.rpartition("/")[2].partition(":")
        answer = self._describe("DescribeJobDefinitions", jobDefinitionName=name, status="ACTIVE")
        found = [
            definition
            for definition in answer["jobDefinitions"]
            if revision in ("", str(definition["revision"])) and definition["jobDefinitionName"] == name
        ]
        if not found:
            raise ClientException(f"JobDefinition, {reference}, does not exist")
        latest: Mapping[str, Any] = max(found, key=lambda definition: definition["revision"])
        return latest

    def _find_queue(self, reference: str) -> Queue:
        answer = self._describe("DescribeJobQueues", jobQueues=[reference])
        if not answer["jobQueues"]:
            raise ClientException(f"Job queue {reference} does not exist")
        found = answer["jobQueues"][0]
        if found["state"] != "ENABLED":
            raise ClientException(f"Job queue {reference} is not enabled")
        name, vcpus = self._environment(found["computeEnvironmentOrder"])
        return Queue(found["jobQueueName"], found["jobQueueArn"], found["priority"], name, vcpus, _time_limits(found))

    def _environment(self, order: list[dict[str, Any]]) -> tuple[str, float]:
        arns = [entry["computeEnvironment"] for entry in sorted(order, key=lambda entry: entry["order"])]
        answer = self._describe("DescribeComputeEnvironments", computeEnvironments=arns)
        sizes = {
            environment["computeEnvironmentName"]: environment.get("computeResources", {}).get("maxvCpus", math.inf)
            for environment in answer["computeEnvironments"]
        }
        if not sizes:
            raise ClientException("The job queue has no compute environment")
        name = max(sizes, key=lambda name: sizes[name])
        return name, sizes[name]


def _time_limits(queue: Mapping[str, Any]) -> tuple[TimeLimit, ...]:
    actions = queue.get("jobStateTimeLimitActions") or ()
    return tuple(TimeLimit(action["reason"], float(action["maxTimeSeconds"])) for action in actions)
