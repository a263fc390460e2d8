"""Batch's rules for job queues and compute environments, as a layer in front of moto.

moto stores the queues and environments. But it permits every deletion, has no quotas, drops the time limits of queues
and ignores changes of a compute environment.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.iam.requests.received import received, with_call
from cloudknot.local.wsgi import Answer, ClientException

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import (
        ComputeEnvironmentDetailTypeDef,
        CreateComputeEnvironmentRequestTypeDef,
        CreateJobQueueRequestTypeDef,
        DeleteComputeEnvironmentRequestTypeDef,
        DeleteJobQueueRequestTypeDef,
        DescribeComputeEnvironmentsRequestTypeDef,
        DescribeJobQueuesRequestTypeDef,
        UpdateComputeEnvironmentRequestTypeDef,
        UpdateJobQueueRequestTypeDef,
    )

DEFAULT_TYPES = ("default_x86_64", "default_arm64")
"""Batch's names for instance types of its own choice. moto accepts only the older name ``optimal``."""
LIMITS = "jobStateTimeLimitActions"
QUOTA = 50
"""Job queues, and likewise compute environments, of an account in a region (Batch user guide, "Service quotas")."""


class BatchResources:
    """A WSGI application that refuses requests as Batch does and passes all others on.

    Parameters
    ----------
    application : WSGI application
        Stores queues and compute environments, and answers all other requests.
    quota : int
        The maximum number of job queues, and of compute environments.
    on_queue_deleted : callable
        Called with the name of each deleted queue.
    """

    def __init__(
        self,
        application: WSGIApplication,
        quota: int = QUOTA,
        on_queue_deleted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._application, self._quota = application, quota
        self._on_queue_deleted = on_queue_deleted
        # One request at a time: a check, such as the quota's, and the change after it belong together.
        self._lock = threading.Lock()
        # The values that moto would drop or refuse, by ARN. Descriptions get them back.
        self._overrides: dict[str, dict[str, object]] = {}
        self._operations: dict[str, Callable[[WSGIEnvironment, Any], Answer]] = {
            "CreateJobQueue": self._create_queue,
            "UpdateJobQueue": self._update_queue,
            "DescribeJobQueues": self._describe_queues,
            "CreateComputeEnvironment": self._create_environment,
            "DeleteJobQueue": self._delete_queue,
            "DeleteComputeEnvironment": self._delete_environment,
            "UpdateComputeEnvironment": self._update_environment,
            "DescribeComputeEnvironments": self._describe_environments,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).calls("batch")
        operation = self._operations.get(call.operation) if call else None
        if call is None or operation is None:
            return self._application(environ, start_response)
        try:
            with self._lock:
                answer = operation(environ, call.arguments)
        except ClientException as error:
            return wsgi.refuse_client(start_response, error)
        return wsgi.send_json(start_response, answer)

    def _create_queue(self, environ: WSGIEnvironment, request: CreateJobQueueRequestTypeDef) -> Answer:
        self._check_new_name(environ, "jobQueues", "jobQueueName", str(request.get("jobQueueName")))
        answer = self._ask(environ, "CreateJobQueue", {"state": "ENABLED", **request})
        self._keep_limits(answer["jobQueueArn"], request)
        return answer

    def _update_queue(self, environ: WSGIEnvironment, request: UpdateJobQueueRequestTypeDef) -> Answer:
        answer = self._ask(environ, "UpdateJobQueue", request)
        self._keep_limits(answer["jobQueueArn"], request)
        return answer

    def _keep_limits(self, arn: str, request: Mapping[str, object]) -> None:
        """Store the time limits of a queue, because moto drops them."""
        # Without AWS's minimum of 600 seconds, so that tests need not wait for so long.
        if LIMITS in request:
            self._overrides[arn] = {LIMITS: request[LIMITS]}

    def _describe_queues(self, environ: WSGIEnvironment, request: DescribeJobQueuesRequestTypeDef) -> Answer:
        answer = self._ask(environ, "DescribeJobQueues", request)
        for queue in answer["jobQueues"]:
            queue.update(self._overrides.get(queue["jobQueueArn"], {}))
        return answer

    def _create_environment(self, environ: WSGIEnvironment, request: CreateComputeEnvironmentRequestTypeDef) -> Answer:
        name = str(request.get("computeEnvironmentName"))
        self._check_new_name(environ, "computeEnvironments", "computeEnvironmentName", name)
        original = request.get("computeResources")
        resources: dict[str, object] = dict(original or {})
        types = list(original.get("instanceTypes", ())) if original else []
        # Jobs run on this machine. For vCPUs that are always on, moto would make instances that nothing deletes.
        sizes: dict[str, object] = {key: resources[key] for key in ("minvCpus", "desiredvCpus") if key in resources}
        resources.update(dict.fromkeys(sizes, 0))
        if moto_types := ["optimal" if name in DEFAULT_TYPES else name for name in types]:
            resources["instanceTypes"] = moto_types
        changed = {"state": "ENABLED", **request, **({"computeResources": resources} if resources else {})}
        answer = self._ask(environ, "CreateComputeEnvironment", changed)
        type_overrides = {"instanceTypes": types} if moto_types != types else {}
        self._overrides[answer["computeEnvironmentArn"]] = {**sizes, **type_overrides}
        return answer

    def _check_new_name(self, environ: WSGIEnvironment, collection: str, key: str, name: str) -> None:
        """Refuse a name that is taken, and one more resource than the quota."""
        existing = self._ask(environ, f"Describe{collection[0].upper()}{collection[1:]}", {})[collection]
        if any(resource[key] == name for resource in existing):
            raise ClientException("Object already exists")
        if len(existing) >= self._quota:
            words = {"jobQueues": "job queues", "computeEnvironments": "compute environments"}[collection]
            raise ClientException(f"Maximum number of {words} supported is {self._quota}")

    def _delete_queue(self, environ: WSGIEnvironment, request: DeleteJobQueueRequestTypeDef) -> Answer:
        for queue in self._ask(environ, "DescribeJobQueues", {"jobQueues": [request["jobQueue"]]})["jobQueues"]:
            if queue["state"] != "DISABLED":
                raise ClientException("Cannot delete, the job queue must be DISABLED")
            self._overrides.pop(queue["jobQueueArn"], None)
        answer = self._ask(environ, "DeleteJobQueue", request)
        self._on_queue_deleted(request["jobQueue"].rpartition("/")[2])
        return answer

    def _delete_environment(self, environ: WSGIEnvironment, request: DeleteComputeEnvironmentRequestTypeDef) -> Answer:
        for environment in self._environments(environ, [request["computeEnvironment"]]):
            if environment["state"] != "DISABLED":
                raise ClientException("Cannot delete, the compute environment must be DISABLED")
            arn = environment["computeEnvironmentArn"]
            queues = self._ask(environ, "DescribeJobQueues", {})["jobQueues"]
            orders = [entry["computeEnvironment"] for queue in queues for entry in queue["computeEnvironmentOrder"]]
            if {arn, environment["computeEnvironmentName"]} & set(orders):
                raise ClientException("Cannot delete, found existing JobQueue relationship")
            self._overrides.pop(arn, None)
        return self._ask(environ, "DeleteComputeEnvironment", request)

    def _update_environment(self, environ: WSGIEnvironment, request: UpdateComputeEnvironmentRequestTypeDef) -> Answer:
        environments = self._environments(environ, [request["computeEnvironment"]])
        if not environments:
            raise ClientException(f"{request['computeEnvironment']} does not exist")
        resources = request.get("computeResources")
        # Batch alone scales a compute environment down, when no job needs it.
        if resources and resources.get("desiredvCpus", math.inf) < _desired_vcpus(environments[0]):
            raise ClientException("Manually scaling down compute environment is not supported.")
        answer = self._ask(environ, "UpdateComputeEnvironment", request)
        if resources:
            self._overrides.setdefault(environments[0]["computeEnvironmentArn"], {}).update(resources)
        return answer

    def _describe_environments(
        self, environ: WSGIEnvironment, request: DescribeComputeEnvironmentsRequestTypeDef
    ) -> Answer:
        answer = self._ask(environ, "DescribeComputeEnvironments", request)
        for environment in answer["computeEnvironments"]:
            overrides = self._overrides.get(environment["computeEnvironmentArn"])
            if overrides:
                environment["computeResources"] = {**environment["computeResources"], **overrides}
        return answer

    def _environments(self, environ: WSGIEnvironment, names: list[str]) -> list[ComputeEnvironmentDetailTypeDef]:
        answer = self._ask(environ, "DescribeComputeEnvironments", {"computeEnvironments": names})
        environments: list[ComputeEnvironmentDetailTypeDef] = answer["computeEnvironments"]
        return environments

    def _ask(self, environ: WSGIEnvironment, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        """Call an operation of the application behind this layer, and return its answer."""
        status, answer = wsgi.ask_json(self._application, environ, with_call(environ, operation, request))
        if not status.startswith("200"):
            raise ClientException(answer.get("message") or answer.get("Message") or status)
        return answer


def _desired_vcpus(environment: ComputeEnvironmentDetailTypeDef) -> int:
    return environment["computeResources"].get("desiredvCpus", 0) if "computeResources" in environment else 0
