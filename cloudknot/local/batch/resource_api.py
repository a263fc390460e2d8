"""The API for Batch's resources: job definitions, queues and compute environments, and the tags of all of them."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudknot.local.batch.catalog import DEFINITION, ENVIRONMENT, QUEUE, BatchCatalog, Resource, arn_of
from cloudknot.local.batch.names import check_name
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.wsgi import Answer, ClientException, ServiceError

if TYPE_CHECKING:
    from types_boto3_batch import type_defs

QUOTA = 50
"""Job queues, and likewise compute environments, of an account in a region (Batch user guide, "Service quotas")."""
PAGE_SIZE = 100
"""Resources on a page, unless a request asks for fewer."""
_SERVICE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"
"""The role of a compute environment that names none."""
_UNSUPPORTED = frozenset(
    {"ecsProperties", "eksConfiguration", "eksProperties", "jobQueueType", "nodeProperties", "schedulingPolicyArn"}
    | {"serviceEnvironmentOrder", "context"}
)
_MEMBERS = {QUEUE: "jobQueue", ENVIRONMENT: "computeEnvironment"}
_TEMPLATE_NAMES = ("launchTemplateId", "launchTemplateName")
_EMPTY_LISTS = ("command", "environment", "mountPoints", "resourceRequirements", "secrets", "ulimits", "volumes")
"""The lists that Batch shows in container properties, also when they are empty."""


class BatchResources:
    """The operations for Batch's resources.

    Parameters
    ----------
    catalog : BatchCatalog
        Stores the resources.
    services : callable
        Calls an operation by the names of its service and its own, with its arguments. Raises `ServiceError` for a
        refused call.
    quota : int
        The maximum number of job queues, and of compute environments.
    on_queue_deleted : callable
        Called with the name of each deleted queue.
    """

    def __init__(
        self,
        catalog: BatchCatalog,
        services: Callable[..., object],
        quota: int = QUOTA,
        on_queue_deleted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._catalog, self._services, self._quota = catalog, services, quota
        self._on_queue_deleted = on_queue_deleted
        # One request at a time: a check, such as the quota's, and the change after it belong together.
        self._lock = threading.RLock()
        self.operations: Mapping[str, Callable[[Any], Answer]] = {
            "RegisterJobDefinition": self._register,
            "DeregisterJobDefinition": self._deregister,
            "DescribeJobDefinitions": self._describe_definitions,
            "CreateJobQueue": self._create_queue,
            "UpdateJobQueue": self._update_queue,
            "DeleteJobQueue": self._delete_queue,
            "DescribeJobQueues": partial(self._described, QUEUE),
            "CreateComputeEnvironment": self._create_environment,
            "UpdateComputeEnvironment": self._update_environment,
            "DeleteComputeEnvironment": self._delete_environment,
            "DescribeComputeEnvironments": partial(self._described, ENVIRONMENT),
            "ListTagsForResource": self._list_tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }

    def _register(self, request: type_defs.RegisterJobDefinitionRequestTypeDef) -> Answer:
        name = request["jobDefinitionName"]
        _check_supported(request)
        check_name("Job definition", name)
        container = request.get("containerProperties") or {}
        if request["type"] != "container" or not container.get("image"):
            raise ClientException(
                f"The embedded cloud does not support the job definition {name} of type {request['type']}: it runs "
                "jobs of one container only. Register a definition with type container and containerProperties."
            )
        with self._lock:
            revision = self._catalog.next_revision(name)
            arn = arn_of(DEFINITION, f"{name}:{revision}")
            content: Resource = {
                **{"parameters": {}, "tags": {}, "containerOrchestrationType": "ECS"},
                **request,
                **{"jobDefinitionArn": arn, "revision": revision, "status": "ACTIVE"},
                "containerProperties": {**{name: [] for name in _EMPTY_LISTS}, **container},
            }
            self._catalog.store(DEFINITION, name, arn, content)
        return {"jobDefinitionArn": arn, "jobDefinitionName": name, "revision": revision}

    def _deregister(self, request: type_defs.DeregisterJobDefinitionRequestTypeDef) -> Answer:
        with self._lock:
            definition = self._catalog.find(DEFINITION, request["jobDefinition"])
            if definition is not None and definition["status"] == "ACTIVE":
                name, arn = definition["jobDefinitionName"], definition["jobDefinitionArn"]
                self._catalog.store(DEFINITION, name, arn, {**definition, "status": "INACTIVE"})
        return {}

    def _describe_definitions(self, request: type_defs.DescribeJobDefinitionsRequestTypeDef) -> Answer:
        if references := request.get("jobDefinitions"):
            found = [self._catalog.find(DEFINITION, reference) for reference in references]
            return {"jobDefinitions": [definition for definition in found if definition is not None]}
        name = request.get("jobDefinitionName", "").rpartition("/")[2].partition(":")[0]
        return self._page(DEFINITION, "jobDefinitions", request, name=name, status=request.get("status", ""))

    def _create_queue(self, request: type_defs.CreateJobQueueRequestTypeDef) -> Answer:
        name = request["jobQueueName"]
        _check_supported(request)
        with self._lock:
            self._check_new(QUEUE, name)
            # Without AWS's minimum of 600 seconds for time limits, so that tests need not wait for so long.
            order = self._order(request.get("computeEnvironmentOrder", ()))
            defaults: Resource = {"state": "ENABLED", "jobStateTimeLimitActions": [], "tags": {}}
            return self._store_new(QUEUE, name, {**defaults, **request, "computeEnvironmentOrder": order})

    def _update_queue(self, request: type_defs.UpdateJobQueueRequestTypeDef) -> Answer:
        _check_supported(request)
        with self._lock:
            queue = self._existing(QUEUE, request["jobQueue"])
            changes: Resource = {member: value for member, value in request.items() if member != "jobQueue"}
            if "computeEnvironmentOrder" in request:
                changes["computeEnvironmentOrder"] = self._order(request["computeEnvironmentOrder"])
            return self._store(QUEUE, {**queue, **changes})

    def _order(self, order: Any) -> list[Resource]:
        """Return the compute environments of a queue by their ARNs."""
        if not order:
            raise ClientException("At least 1 compute environment must be provided")
        environments = [self._existing(ENVIRONMENT, entry["computeEnvironment"]) for entry in order]
        arns = [environment["computeEnvironmentArn"] for environment in environments]
        for environment in environments:
            if environment["status"] != "VALID":
                raise ClientException(f"{environment['computeEnvironmentArn']} is not VALID")
        return [{**entry, "computeEnvironment": arn} for entry, arn in zip(order, arns, strict=True)]

    def _delete_queue(self, request: type_defs.DeleteJobQueueRequestTypeDef) -> Answer:
        with self._lock:
            queue = self._disabled(QUEUE, request["jobQueue"])
            if queue is None:
                return {}
            self._catalog.delete(queue["jobQueueArn"])
        self._on_queue_deleted(queue["jobQueueName"])
        return {}

    def _create_environment(self, request: type_defs.CreateComputeEnvironmentRequestTypeDef) -> Answer:
        name, resources = request["computeEnvironmentName"], request.get("computeResources")
        _check_supported(request)
        if request["type"] == "MANAGED" and not resources:
            raise ClientException("computeResources must be provided for a MANAGED compute environment")
        if resources and resources.get("minvCpus", 0) > resources["maxvCpus"]:
            raise ClientException("maxvCpus must be greater than or equal to minvCpus")
        self._check_network(resources or {})
        with self._lock:
            self._check_new(ENVIRONMENT, name)
            defaults: Resource = {"state": "ENABLED", "serviceRole": _SERVICE_ROLE, "tags": {}}
            identity = str(uuid.uuid4())
            cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/AWSBatch-{name}-{identity}"
            made = {"uuid": identity, "ecsClusterArn": cluster, "containerOrchestrationType": "ECS"}
            content = {**defaults, **request, **made, **self._health(resources or {})}
            return self._store_new(ENVIRONMENT, name, content)

    def _update_environment(self, request: type_defs.UpdateComputeEnvironmentRequestTypeDef) -> Answer:
        self._check_network(request.get("computeResources") or {})
        with self._lock:
            environment = self._existing(ENVIRONMENT, request["computeEnvironment"])
            changes: Resource = {member: value for member, value in request.items() if member != "computeEnvironment"}
            if changed := request.get("computeResources"):
                resources = environment.get("computeResources") or {}
                # Batch alone scales a compute environment down, when no job needs it.
                if changed.get("desiredvCpus", math.inf) < resources.get("desiredvCpus", 0):
                    raise ClientException("Manually scaling down compute environment is not supported.")
                changes["computeResources"] = {**resources, **changed}
                changes |= self._health(changes["computeResources"])
            return self._store(ENVIRONMENT, {**environment, **changes})

    def _check_network(self, resources: Mapping[str, Any]) -> None:
        """Refuse subnets and security groups that do not exist, in the words of EC2."""
        try:
            if subnets := resources.get("subnets"):
                self._services("ec2", "DescribeSubnets", SubnetIds=subnets)
            if groups := resources.get("securityGroupIds"):
                self._services("ec2", "DescribeSecurityGroups", GroupIds=groups)
        except ServiceError as error:
            raise ClientException(str(error)) from error

    def _health(self, resources: Mapping[str, Any]) -> Resource:
        """Return the status of a compute environment and its reason. Batch does not refuse the following mistakes."""
        role, template = resources.get("instanceRole", ""), resources.get("launchTemplate") or {}
        names = {f"L{name[1:]}": template[name] for name in _TEMPLATE_NAMES if name in template}
        try:
            if names:
                versions = [template.get("version") or "$Default"]
                self._services("ec2", "DescribeLaunchTemplateVersions", **names, Versions=versions)
        except ServiceError as error:
            return _invalid_environment(str(error))
        try:
            if role:
                self._services("iam", "GetInstanceProfile", InstanceProfileName=role.rpartition("/")[2])
        except ServiceError:
            return _invalid_environment(f"Invalid IamInstanceProfile: {role}")
        return _healthy(ENVIRONMENT)

    def _delete_environment(self, request: type_defs.DeleteComputeEnvironmentRequestTypeDef) -> Answer:
        with self._lock:
            environment = self._disabled(ENVIRONMENT, request["computeEnvironment"])
            if environment is None:
                return {}
            arn = environment["computeEnvironmentArn"]
            for _, queue in self._catalog.find_all(QUEUE):
                if any(entry["computeEnvironment"] == arn for entry in queue["computeEnvironmentOrder"]):
                    raise ClientException("Cannot delete, found existing JobQueue relationship")
            self._catalog.delete(arn)
        return {}

    def _disabled(self, kind: str, reference: str) -> Resource | None:
        """Return a resource to delete, or None if it is missing. Refuse to delete an enabled one."""
        found = self._catalog.find(kind, reference)
        if found is not None and found["state"] != "DISABLED":
            raise ClientException(f"Cannot delete, the {_words(kind)} must be DISABLED")
        return found

    def _list_tags(self, request: type_defs.ListTagsForResourceRequestTypeDef) -> Answer:
        return {"tags": self._tagged(request["resourceArn"])[1].get("tags", {})}

    def _tag(self, request: type_defs.TagResourceRequestTypeDef) -> Answer:
        return self._change_tags(request["resourceArn"], lambda tags: {**tags, **request["tags"]})

    def _untag(self, request: type_defs.UntagResourceRequestTypeDef) -> Answer:
        keys = request["tagKeys"]
        return self._change_tags(
            request["resourceArn"], lambda tags: {key: value for key, value in tags.items() if key not in keys}
        )

    def _change_tags(self, arn: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Answer:
        with self._lock:
            kind, resource = self._tagged(arn)
            name = arn.rpartition("/")[2].partition(":")[0]
            self._catalog.store(kind, name, arn, {**resource, "tags": change(resource.get("tags", {}))})
        return {}

    def _tagged(self, arn: str) -> tuple[str, Resource]:
        kind = arn.rpartition("/")[0].rpartition(":")[2]
        resource = self._catalog.find(kind, arn)
        if resource is None:
            raise ClientException(f"Resource {arn} does not exist")
        return kind, resource

    def _existing(self, kind: str, reference: str) -> Resource:
        resource = self._catalog.find(kind, reference)
        if resource is None:
            raise ClientException(f"{_words(kind).capitalize()} {reference} does not exist")
        return resource

    def _check_new(self, kind: str, name: str) -> None:
        """Refuse an invalid name, one that is taken, and one more resource than the quota."""
        check_name(_words(kind).capitalize(), name)
        if self._catalog.find(kind, arn_of(kind, name)):
            raise ClientException("Object already exists")
        if len(self._catalog.find_all(kind)) >= self._quota:
            raise ClientException(f"Maximum number of {_words(kind)}s supported is {self._quota}")

    def _store_new(self, kind: str, name: str, content: Mapping[str, Any]) -> Answer:
        """Store a new queue or compute environment."""
        return self._store(kind, {**_healthy(kind), **content, f"{_MEMBERS[kind]}Arn": arn_of(kind, name)})

    def _store(self, kind: str, content: Resource) -> Answer:
        """Store a queue or compute environment, and return the answer that names it."""
        member = _MEMBERS[kind]
        name, arn = content[f"{member}Name"], content[f"{member}Arn"]
        self._catalog.store(kind, name, arn, content)
        return {f"{member}Name": name, f"{member}Arn": arn}

    def _described(self, kind: str, request: Mapping[str, Any]) -> Answer:
        member = f"{_MEMBERS[kind]}s"
        if references := request.get(member):
            found = [self._catalog.find(kind, reference) for reference in references]
            return {member: [resource for resource in found if resource is not None]}
        return self._page(kind, member, request)

    def _page(self, kind: str, member: str, request: Mapping[str, Any], name: str = "", status: str = "") -> Answer:
        size = min(request.get("maxResults") or PAGE_SIZE, PAGE_SIZE)
        token = request.get("nextToken") or "0"
        if not token.isdecimal():
            raise ClientException("Invalid nextToken")
        found = self._catalog.find_all(kind, name=name, status=status, after=int(token), limit=size + 1)
        more = {"nextToken": str(found[size - 1][0])} if len(found) > size else {}
        return {member: [resource for _, resource in found[:size]], **more}


def _words(kind: str) -> str:
    return kind.replace("-", " ")


def _healthy(kind: str) -> Resource:
    member = _MEMBERS[kind]
    return {"status": "VALID", "statusReason": f"{member[0].upper()}{member[1:]} Healthy"}


def _invalid_environment(reason: str) -> Resource:
    return {"status": "INVALID", "statusReason": f"CLIENT_ERROR - {reason}"}


def _check_supported(request: Mapping[str, object]) -> None:
    for member in sorted(_UNSUPPORTED & request.keys()):
        if request[member]:
            raise ClientException(
                f"The embedded cloud does not support {member}: it runs jobs of one container, first in, first out. "
                f"Remove {member}."
            )
