"""Queues and compute environments as Batch guards them: a layer in front of moto, which keeps them.

moto lets anything be deleted at any time, knows no quotas, keeps no time limits of queues, and does not take note when
a compute environment changes.
"""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
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
"""Batch's words for whatever suits, of which moto knows only ``optimal``."""
LIMITS = "jobStateTimeLimitActions"
QUOTA = 50
"""Job queues, and compute environments, of an account in a region (Batch user guide, "Service quotas")."""


class BatchResources:
    """A WSGI application: Batch's refusals, everything else by another application.

    Parameters
    ----------
    others : WSGI application
        Also keeps the queues and the environments.
    quota : int
        How many of each there may be.
    """

    def __init__(self, others: WSGIApplication, quota: int = QUOTA) -> None:
        self._others, self._quota = others, quota
        self._lock = threading.Lock()
        self._changes: dict[str, dict[str, object]] = {}
        self._operations: dict[str, Callable[[WSGIEnvironment, Any], Answer]] = {
            "createjobqueue": self._create_queue,
            "updatejobqueue": self._update_queue,
            "describejobqueues": self._describe_queues,
            "createcomputeenvironment": self._create_environment,
            "deletejobqueue": self._delete_queue,
            "deletecomputeenvironment": self._delete_environment,
            "updatecomputeenvironment": self._update_environment,
            "describecomputeenvironments": self._describe_environments,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        operation = self._operations.get(path.removeprefix("/v1/")) if path.startswith("/v1/") else None
        if operation is None or environ["REQUEST_METHOD"] != "POST":
            return self._others(environ, start_response)
        try:
            with self._lock:
                answer = operation(environ, json.loads(environ["wsgi.input"].read() or b"{}"))
        except ClientException as error:
            return wsgi.refuse_client(start_response, error)
        return wsgi.send_json(start_response, answer)

    def _create_queue(self, environ: WSGIEnvironment, request: CreateJobQueueRequestTypeDef) -> Answer:
        self._refuse_one_more(environ, "jobQueues", "jobQueueName", str(request.get("jobQueueName")))
        answer = self._ask(environ, "createjobqueue", {"state": "ENABLED", **request})
        self._keep_limits(answer["jobQueueArn"], request)
        return answer

    def _update_queue(self, environ: WSGIEnvironment, request: UpdateJobQueueRequestTypeDef) -> Answer:
        answer = self._ask(environ, "updatejobqueue", request)
        self._keep_limits(answer["jobQueueArn"], request)
        return answer

    def _keep_limits(self, arn: str, request: Mapping[str, object]) -> None:
        """Any number of seconds is taken, so that a test need not wait for the 600 that are the least on AWS."""
        if LIMITS in request:
            self._changes[arn] = {LIMITS: request[LIMITS]}

    def _describe_queues(self, environ: WSGIEnvironment, request: DescribeJobQueuesRequestTypeDef) -> Answer:
        answer = self._ask(environ, "describejobqueues", request)
        for queue in answer["jobQueues"]:
            queue.update(self._changes.get(queue["jobQueueArn"], {}))
        return answer

    def _create_environment(self, environ: WSGIEnvironment, request: CreateComputeEnvironmentRequestTypeDef) -> Answer:
        name = str(request.get("computeEnvironmentName"))
        self._refuse_one_more(environ, "computeEnvironments", "computeEnvironmentName", name)
        given = request.get("computeResources")
        resources: dict[str, object] = dict(given or {})
        types = list(given.get("instanceTypes", ())) if given else []
        # Jobs run on this machine. For instances, moto would make things that outlive the environment.
        sizes: dict[str, object] = {key: resources[key] for key in ("minvCpus", "desiredvCpus") if key in resources}
        resources.update(dict.fromkeys(sizes, 0))
        if known := ["optimal" if one in DEFAULT_TYPES else one for one in types]:
            resources["instanceTypes"] = known
        asked = {"state": "ENABLED", **request, **({"computeResources": resources} if resources else {})}
        answer = self._ask(environ, "createcomputeenvironment", asked)
        told = {"instanceTypes": types} if known != types else {}
        self._changes[answer["computeEnvironmentArn"]] = {**sizes, **told}
        return answer

    def _refuse_one_more(self, environ: WSGIEnvironment, noun: str, key: str, name: str) -> None:
        found = self._ask(environ, f"describe{noun.lower()}", {})[noun]
        if any(one[key] == name for one in found):
            raise ClientException("Object already exists")
        if len(found) >= self._quota:
            words = {"jobQueues": "job queues", "computeEnvironments": "compute environments"}[noun]
            raise ClientException(f"Maximum number of {words} supported is {self._quota}")

    def _delete_queue(self, environ: WSGIEnvironment, request: DeleteJobQueueRequestTypeDef) -> Answer:
        for queue in self._ask(environ, "describejobqueues", {"jobQueues": [request["jobQueue"]]})["jobQueues"]:
            if queue["state"] != "DISABLED":
                raise ClientException("Cannot delete, the job queue must be DISABLED")
            self._changes.pop(queue["jobQueueArn"], None)
        return self._ask(environ, "deletejobqueue", request)

    def _delete_environment(self, environ: WSGIEnvironment, request: DeleteComputeEnvironmentRequestTypeDef) -> Answer:
        for environment in self._environments(environ, [request["computeEnvironment"]]):
            if environment["state"] != "DISABLED":
                raise ClientException("Cannot delete, the compute environment must be DISABLED")
            arn = environment["computeEnvironmentArn"]
            queues = self._ask(environ, "describejobqueues", {})["jobQueues"]
            orders = [entry["computeEnvironment"] for queue in queues for entry in queue["computeEnvironmentOrder"]]
            if {arn, environment["computeEnvironmentName"]} & set(orders):
                raise ClientException("Cannot delete, found existing JobQueue relationship")
            self._changes.pop(arn, None)
        return self._ask(environ, "deletecomputeenvironment", request)

    def _update_environment(self, environ: WSGIEnvironment, request: UpdateComputeEnvironmentRequestTypeDef) -> Answer:
        found = self._environments(environ, [request["computeEnvironment"]])
        if not found:
            raise ClientException(f"{request['computeEnvironment']} does not exist")
        resources = request.get("computeResources")
        if resources and resources.get("desiredvCpus", math.inf) < _desired(found[0]):
            raise ClientException("Manually scaling down compute environment is not supported.")
        answer = self._ask(environ, "updatecomputeenvironment", request)
        if resources:
            self._changes.setdefault(found[0]["computeEnvironmentArn"], {}).update(resources)
        return answer

    def _describe_environments(
        self, environ: WSGIEnvironment, request: DescribeComputeEnvironmentsRequestTypeDef
    ) -> Answer:
        answer = self._ask(environ, "describecomputeenvironments", request)
        for environment in answer["computeEnvironments"]:
            changed = self._changes.get(environment["computeEnvironmentArn"])
            if changed:
                environment["computeResources"] = {**environment["computeResources"], **changed}
        return answer

    def _environments(self, environ: WSGIEnvironment, names: list[str]) -> list[ComputeEnvironmentDetailTypeDef]:
        answer = self._ask(environ, "describecomputeenvironments", {"computeEnvironments": names})
        found: list[ComputeEnvironmentDetailTypeDef] = answer["computeEnvironments"]
        return found

    def _ask(self, environ: WSGIEnvironment, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        """An operation of the application behind."""
        body, path = json.dumps(request).encode(), f"/v1/{operation}"
        changed: dict[str, object] = {"PATH_INFO": path, "RAW_URI": path, "REQUEST_URI": path, "QUERY_STRING": ""}
        changed |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        status, answer = wsgi.ask_json(self._others, environ, changed)
        if not status.startswith("200"):
            raise ClientException(answer.get("message") or answer.get("Message") or status)
        return answer


def _desired(environment: ComputeEnvironmentDetailTypeDef) -> int:
    return environment["computeResources"].get("desiredvCpus", 0) if "computeResources" in environment else 0
