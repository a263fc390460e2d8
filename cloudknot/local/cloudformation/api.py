"""The operations of CloudFormation."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cloudknot.local.cloudformation.calls import StackCalls
from cloudknot.local.cloudformation.deployment import Deployment, check, run
from cloudknot.local.cloudformation.records import DELETED, Resource, StackRecord, StackSpec, ValidationError
from cloudknot.local.cloudformation.stack_store import StackStore
from cloudknot.local.cloudformation.template import load, parameter_values
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, Request, carry_out, page
from cloudknot.local.iam.requests.query_protocol import write_answer
from cloudknot.local.wsgi import Answer

PAGE_SIZE = 100
POLL_TIME = 0.5
"""Seconds that a description of one stack waits for the end of its operation."""
# AWS requires CAPABILITY_NAMED_IAM for resources of these types with a name. Here it is required with or without one.
IAM_TYPES = ("AWS::IAM::Role", "AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy")


class CloudFormation:
    """The stacks of the embedded cloud.

    Parameters
    ----------
    store : StackStore
        Keeps the stacks.
    calls : callable
        ``calls(access_key)`` returns the calls as the owner of the key.
    is_owner : callable
        ``is_owner(access_key)`` returns whether the key may do everything.
    """

    def __init__(
        self,
        store: StackStore,
        calls: Callable[[str], StackCalls],
        is_owner: Callable[[str], bool],
    ) -> None:
        self._calls, self._is_owner = calls, is_owner
        self._store = store
        self._stacks = store.load()
        self._lock = threading.Lock()
        self._changes: Mapping[str, Callable[[str, Any], Answer]] = {
            "CreateStack": self._create_stack,
            "UpdateStack": self._update_stack,
            "ContinueUpdateRollback": self._continue_update_rollback,
            "DeleteStack": self._delete_stack,
        }
        self._reads: Mapping[str, Operation] = {
            "DescribeStacks": self._describe_stacks,
            "ListStacks": self._list_stacks,
            "DescribeStackEvents": self._describe_stack_events,
            "ListStackResources": self._list_stack_resources,
            "DescribeStackResources": self._describe_stack_resources,
            "GetTemplate": self._get_template,
            "ValidateTemplate": self._validate_template,
        }

    def start(self) -> None:
        """Finish the operations that the end of the last server has interrupted, or roll them back."""
        for record in list(self._stacks.values()):
            if record.status.endswith("_IN_PROGRESS"):
                self._start_work(record, partial(self._resume, self._deployment(record, record.access_key)))

    def _resume(self, deployment: Deployment) -> None:
        deployment.finish_creation()
        deployment.resume()

    def respond(self, operation: str, request: Request, access_key: str) -> bytes:
        """Return the body of the answer to a request. Raise `ServiceError` for a refused one."""
        changes = {name: partial(change, access_key) for name, change in self._changes.items()}
        answer = carry_out("cloudformation", {**self._reads, **changes}, operation, request)
        return write_answer("cloudformation", operation, answer)

    def _create_stack(self, access_key: str, request: Request) -> Answer:
        name = request["StackName"]
        spec = _spec(request)
        with self._lock:
            existing_stack = self._live(name)
            if existing_stack is not None:
                raise ValidationError(f"Stack [{name}] already exists", "AlreadyExistsException")
            stack_id = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/{uuid.uuid4()}"
            record = StackRecord(name, stack_id, spec, access_key=access_key, save=self._store.save)
            check(spec, self._pseudo_parameters(record))
            record.set_status("CREATE_IN_PROGRESS", "User Initiated")
            self._stacks[stack_id] = record
        self._start_work(record, self._deployment(record, access_key).create)
        return {"StackId": stack_id}

    def _update_stack(self, access_key: str, request: Request) -> Answer:
        record = self._find(request)
        spec = _spec(request, record.spec)
        check(spec, self._pseudo_parameters(record))
        with record.lock:
            # A stack in ROLLBACK_COMPLETE has no resources. AWS permits only its deletion.
            if not record.status.endswith("_COMPLETE") or record.status in ("ROLLBACK_COMPLETE", DELETED):
                raise ValidationError(f"Stack:{record.id} is in {record.status} state and can not be updated.")
            deployment = self._deployment(record, access_key)
            if not deployment.has_changes(spec):
                raise ValidationError("No updates are to be performed.")
            record.access_key = access_key
            record.set_status("UPDATE_IN_PROGRESS", "User Initiated")
        self._start_work(record, partial(deployment.update, spec))
        return {"StackId": record.id}

    def _continue_update_rollback(self, access_key: str, request: Request) -> Answer:
        record = self._find(request)
        with record.lock:
            if record.status != "UPDATE_ROLLBACK_FAILED":
                raise ValidationError(f"Stack:{record.id} is in {record.status} state and can not be rolled back.")
            record.access_key = access_key
            record.set_status("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        skipped = set(request.get("ResourcesToSkip", ()))
        self._start_work(record, partial(self._deployment(record, access_key).continue_rollback, skipped))
        return {}

    def _delete_stack(self, access_key: str, request: Request) -> Answer:
        record = self._stacks.get(request["StackName"]) or self._live(request["StackName"])
        # As on AWS, the deletion of a stack that does not exist succeeds.
        if record is None:
            return {}
        with record.lock:
            if record.status in (DELETED, "DELETE_IN_PROGRESS"):
                return {}
            if record.status.startswith(("UPDATE", "ROLLBACK")) and record.status.endswith("_IN_PROGRESS"):
                raise ValidationError(f"Stack [{record.name}] cannot be deleted while in status {record.status}")
            # A creation in progress looks at this before each resource, and leaves the rest to the deletion.
            record.deletion_requested, record.access_key = True, access_key
            record.set_status("DELETE_IN_PROGRESS", "User Initiated")
        self._start_work(record, self._deployment(record, access_key).delete)
        return {}

    def _describe_stacks(self, request: Request) -> Answer:
        if "StackName" in request:
            record = self._find(request)
            # A caller polls for the end with growing pauses, which are made for minutes. Most stacks end sooner here.
            record.wait(POLL_TIME)
            return {"Stacks": [stack_answer(record)]}
        # A deleted stack is described by its id only.
        live = [record for record in self._newest_first() if record.status != DELETED]
        return _page("Stacks", [stack_answer(record) for record in live], request)

    def _list_stacks(self, request: Request) -> Answer:
        states = set(request.get("StackStatusFilter", ()))
        records = [record for record in self._newest_first() if not states or record.status in states]
        omitted = ("Parameters", "Outputs", "Tags", "Capabilities", "Description")
        rows = [
            {key: value for key, value in stack_answer(record).items() if key not in omitted} for record in records
        ]
        return _page("StackSummaries", rows, request)

    def _describe_stack_events(self, request: Request) -> Answer:
        record = self._find(request)
        rows = [
            {
                "StackId": record.id,
                "EventId": event.id,
                "StackName": record.name,
                "LogicalResourceId": event.logical_id,
                "PhysicalResourceId": event.physical_id,
                "ResourceType": event.kind,
                "Timestamp": event.time,
                "ResourceStatus": event.status,
                "ResourceStatusReason": event.reason or None,
            }
            for event in reversed(list(record.events))
        ]
        return _page("StackEvents", rows, request)

    def _list_stack_resources(self, request: Request) -> Answer:
        record = self._find(request)
        # A copy: the thread that works on the stack changes the dict during the loop.
        rows = [_resource(resource, "LastUpdatedTimestamp") for resource in list(record.resources.values())]
        return _page("StackResourceSummaries", rows, request)

    def _describe_stack_resources(self, request: Request) -> Answer:
        record = self._find(request)
        stack = {"StackId": record.id, "StackName": record.name}
        resources = list(record.resources.values())
        return {"StackResources": [{**stack, **_resource(resource, "Timestamp")} for resource in resources]}

    def _get_template(self, request: Request) -> Answer:
        return {"TemplateBody": self._find(request).spec.text}

    def _validate_template(self, request: Request) -> Answer:
        text = request.get("TemplateBody", "")
        template = load(text)
        declared = template.get("Parameters", {})
        spec = StackSpec(text, template, {name: str(entry.get("Default", "")) for name, entry in declared.items()}, {})
        check(spec, self._pseudo_parameters(StackRecord("", "", spec)))
        return {
            "Description": template.get("Description"),
            "Parameters": [{"ParameterKey": name} for name in declared],
        }

    def _find(self, request: Request) -> StackRecord:
        # Not in AWS's description: an operation may find a stack by other arguments, which are not supported here.
        name = request.get("StackName")
        if name is None:
            raise ValidationError("StackName must be specified.")
        record = self._stacks.get(name) or self._live(name)
        if record is None:
            raise ValidationError(f"Stack with id {name} does not exist")
        return record

    def _live(self, name: str) -> StackRecord | None:
        records = list(self._stacks.values())
        return next((record for record in records if record.name == name and record.status != DELETED), None)

    def _newest_first(self) -> list[StackRecord]:
        return list(reversed(self._stacks.values()))

    def _deployment(self, record: StackRecord, access_key: str) -> Deployment:
        # Nothing can deny the handlers' reads to the owner, so they would only take time.
        limited = not self._is_owner(access_key)
        return Deployment(record, self._calls(access_key), self._pseudo_parameters(record), reads=limited)

    def _pseudo_parameters(self, record: StackRecord) -> dict[str, str]:
        return {
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackId": record.id,
            "AWS::StackName": record.name,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def _start_work(self, record: StackRecord, work: Callable[[], None]) -> None:
        # A request returns at once, as on AWS: callers poll the stack for its end.
        threading.Thread(target=run, args=(work, record), name=f"stack {record.name}", daemon=True).start()


def _spec(request: Request, previous: StackSpec | None = None) -> StackSpec:
    """Return the stack that a request describes.

    An update can refer to the template and to parameters of the ``previous`` specification.
    """
    if "TemplateBody" not in request and not (previous and request.get("UsePreviousTemplate")):
        raise ValidationError("Either Template URL or Template Body must be specified.")
    text = request.get("TemplateBody", previous.text if previous else "")
    template = load(text)
    capabilities = set(request.get("Capabilities", ()))
    types = {resource.get("Type") for resource in template["Resources"].values()}
    if types & set(IAM_TYPES) and "CAPABILITY_NAMED_IAM" not in capabilities:
        raise ValidationError("Requires capabilities : [CAPABILITY_NAMED_IAM]", "InsufficientCapabilitiesException")
    parameters = {}
    for entry in request.get("Parameters", ()):
        key, is_previous = entry.get("ParameterKey", ""), previous and entry.get("UsePreviousValue")
        if previous and is_previous and key not in previous.parameters:
            raise ValidationError(f"Parameters: [{key}] must have values")
        parameters[key] = previous.parameters[key] if previous and is_previous else entry.get("ParameterValue", "")
    # An update without the argument keeps the tags of the stack. An empty list removes them.
    kept = previous.tags if previous is not None else {}
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]} if "Tags" in request else kept
    return StackSpec(text, template, parameter_values(template, parameters), tags)


def _resource(resource: Resource, time: str) -> Answer:
    return {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id,
        "ResourceType": resource.kind,
        time: resource.changed,
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.reason or None,
    }


def _page(name: str, rows: Sequence[Answer], request: Request) -> Answer:
    shown, token = page(rows, request.get("NextToken"), PAGE_SIZE)
    return {name: shown, "NextToken": token}


def stack_answer(record: StackRecord) -> Answer:
    """Return a stack's entry in the answer of DescribeStacks."""
    spec = record.spec
    return {
        "StackId": record.id,
        "StackName": record.name,
        "Description": spec.template.get("Description"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in spec.parameters.items()],
        "CreationTime": record.created,
        "DeletionTime": record.deleted,
        "LastUpdatedTime": record.updated,
        "StackStatus": record.status,
        "StackStatusReason": record.reason or None,
        "DisableRollback": False,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in record.outputs.items()],
        "Tags": [{"Key": key, "Value": value} for key, value in spec.tags.items()],
    }
