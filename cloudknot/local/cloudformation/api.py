"""CloudFormation's protocol: form requests in, XML out."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from cloudknot.aws.door import Door
from cloudknot.local.cloudformation.deployment import Deployment, check, run
from cloudknot.local.cloudformation.records import GONE, Resource, StackRecord, ValidationError, Wanted
from cloudknot.local.cloudformation.template import load, parameters_of

PAGE = 100
NAMED_KINDS = ("AWS::IAM::Role", "AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy")

Form = Mapping[str, str]
Answer = Mapping[str, object]


class CloudFormation:
    """Every stack of the cloud.

    Parameters
    ----------
    door : callable
        ``door(access_key)``: makes calls as that key's owner.
    account, region : str
    on_change : callable
        Called when what Batch has may have changed.
    """

    def __init__(
        self, door: Callable[[str], Door], account: str, region: str, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._door, self._on_change = door, on_change
        self._account, self._region = account, region
        self._stacks: dict[str, StackRecord] = {}
        self._lock = threading.Lock()
        self._actions = {
            "CreateStack": self._create_stack,
            "UpdateStack": self._update_stack,
            "DeleteStack": self._delete_stack,
            "DescribeStacks": self._describe_stacks,
            "ListStacks": self._list_stacks,
            "DescribeStackEvents": self._describe_stack_events,
            "ListStackResources": self._list_stack_resources,
            "DescribeStackResources": self._describe_stack_resources,
            "GetTemplate": self._get_template,
        }

    def respond(self, body: bytes, access_key: str) -> bytes:
        """The body that answers a request. `ValidationError` when it is refused."""
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        action = form.get("Action", "")
        handler = self._actions.get(action)
        if handler is None:
            raise ValidationError(f"The embedded cloud does not know the action {action!r}.", "InvalidAction")
        return render(action, handler(form, access_key))

    def _create_stack(self, form: Form, access_key: str) -> Answer:
        name = form.get("StackName", "")
        wanted = _wanted(form)
        with self._lock:
            taken = self._live(name)
            if taken is not None:
                raise ValidationError(f"Stack [{name}] already exists", "AlreadyExistsException")
            stack_id = f"arn:aws:cloudformation:{self._region}:{self._account}:stack/{name}/{uuid.uuid4()}"
            record = StackRecord(name, stack_id, wanted)
            check(wanted, self._pseudo(record))
            record.become("CREATE_IN_PROGRESS", "User Initiated")
            self._stacks[stack_id] = record
        self._work(record, self._deployment(record, access_key).create)
        return {"StackId": stack_id}

    def _update_stack(self, form: Form, access_key: str) -> Answer:
        record = self._find(form["StackName"])
        wanted = _wanted(form, record.wanted)
        check(wanted, self._pseudo(record))
        with record.lock:
            if not record.status.endswith("_COMPLETE") or record.status in ("ROLLBACK_COMPLETE", GONE):
                raise ValidationError(f"Stack:{record.id} is in {record.status} state and can not be updated.")
            deployment = self._deployment(record, access_key)
            if not deployment.changes(wanted):
                raise ValidationError("No updates are to be performed.")
            record.become("UPDATE_IN_PROGRESS", "User Initiated")
        self._work(record, partial(deployment.update, wanted))
        return {"StackId": record.id}

    def _delete_stack(self, form: Form, access_key: str) -> Answer:
        record = self._stacks.get(form["StackName"]) or self._live(form["StackName"])
        if record is None:
            return {}
        with record.lock:
            if record.status in (GONE, "DELETE_IN_PROGRESS"):
                return {}
            if record.status.startswith(("UPDATE", "ROLLBACK")) and record.status.endswith("_IN_PROGRESS"):
                raise ValidationError(f"Stack [{record.name}] cannot be deleted while in status {record.status}")
            record.unwanted = True
            record.become("DELETE_IN_PROGRESS", "User Initiated")
        self._work(record, self._deployment(record, access_key).delete)
        return {}

    def _describe_stacks(self, form: Form, _: str) -> Answer:
        if "StackName" in form:
            return {"Stacks": [stack_answer(self._find(form["StackName"]))]}
        live = [record for record in self._newest_first() if record.status != GONE]
        return _page("Stacks", [stack_answer(record) for record in live], form)

    def _list_stacks(self, form: Form, _: str) -> Answer:
        states = set(_members(form, "StackStatusFilter").values())
        found = [record for record in self._newest_first() if not states or record.status in states]
        dropped = ("Parameters", "Outputs", "Tags", "Capabilities", "Description")
        rows = [{key: value for key, value in stack_answer(one).items() if key not in dropped} for one in found]
        return _page("StackSummaries", rows, form)

    def _describe_stack_events(self, form: Form, _: str) -> Answer:
        record = self._find(form["StackName"])
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
        return _page("StackEvents", rows, form)

    def _list_stack_resources(self, form: Form, _: str) -> Answer:
        record = self._find(form["StackName"])
        rows = [_resource(one, "LastUpdatedTimestamp") for one in list(record.resources.values())]
        return _page("StackResourceSummaries", rows, form)

    def _describe_stack_resources(self, form: Form, _: str) -> Answer:
        record = self._find(form["StackName"])
        stack = {"StackId": record.id, "StackName": record.name}
        return {
            "StackResources": [{**stack, **_resource(one, "Timestamp")} for one in list(record.resources.values())]
        }

    def _get_template(self, form: Form, _: str) -> Answer:
        return {"TemplateBody": self._find(form["StackName"]).wanted.text}

    def _find(self, name: str) -> StackRecord:
        record = self._stacks.get(name) or self._live(name)
        if record is None:
            raise ValidationError(f"Stack with id {name} does not exist")
        return record

    def _live(self, name: str) -> StackRecord | None:
        found = (one for one in list(self._stacks.values()) if one.name == name and one.status != GONE)
        return next(found, None)

    def _newest_first(self) -> list[StackRecord]:
        return list(reversed(self._stacks.values()))

    def _deployment(self, record: StackRecord, access_key: str) -> Deployment:
        return Deployment(record, self._door(access_key), self._pseudo(record))

    def _pseudo(self, record: StackRecord) -> dict[str, str]:
        return {
            "AWS::AccountId": self._account,
            "AWS::Partition": "aws",
            "AWS::Region": self._region,
            "AWS::StackId": record.id,
            "AWS::StackName": record.name,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def _work(self, record: StackRecord, work: Callable[[], None]) -> None:
        def worked() -> None:
            try:
                run(work, record)
            finally:
                self._on_change()

        threading.Thread(target=worked, name=f"stack {record.name}", daemon=True).start()


def _wanted(form: Form, before: Wanted | None = None) -> Wanted:
    """What a request asks for; an update may ask for the template or a parameter that was there before."""
    if "TemplateBody" not in form and not (before and form.get("UsePreviousTemplate") == "true"):
        raise ValidationError("Either Template URL or Template Body must be specified.")
    text = form.get("TemplateBody", before.text if before else "")
    template = load(text)
    capabilities = set(_members(form, "Capabilities").values())
    kinds = {one.get("Type") for one in template["Resources"].values()}
    if kinds & set(NAMED_KINDS) and "CAPABILITY_NAMED_IAM" not in capabilities:
        raise ValidationError("Requires capabilities : [CAPABILITY_NAMED_IAM]", "InsufficientCapabilitiesException")
    given = {}
    for prefix in _members(form, "Parameters"):
        key = form[f"{prefix}.ParameterKey"]
        previous = before is not None and form.get(f"{prefix}.UsePreviousValue") == "true"
        given[key] = before.parameters[key] if before and previous else form.get(f"{prefix}.ParameterValue", "")
    tags = {form[f"{prefix}.Key"]: form[f"{prefix}.Value"] for prefix in _members(form, "Tags")}
    kept = before.tags if before is not None and not tags else tags
    return Wanted(text, template, parameters_of(template, given), kept)


def _members(form: Form, name: str) -> dict[str, str]:
    """A list of a request: the prefix of each member, and its value if it is a plain one."""
    found: dict[str, str] = {}
    start = f"{name}.member."
    for key, value in form.items():
        if key.startswith(start):
            number, _, rest = key[len(start) :].partition(".")
            found.setdefault(f"{start}{number}", "" if rest else value)
    return found


def _resource(resource: Resource, time: str) -> Answer:
    return {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id,
        "ResourceType": resource.kind,
        time: resource.changed,
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.reason or None,
    }


def _page(name: str, rows: Sequence[Answer], form: Form) -> Answer:
    start = int(form.get("NextToken") or 0)
    more = {"NextToken": str(start + PAGE)} if len(rows) > start + PAGE else {}
    return {name: rows[start : start + PAGE], **more}


NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def stack_answer(record: StackRecord) -> Answer:
    """One entry of DescribeStacks."""
    wanted = record.wanted
    return {
        "StackId": record.id,
        "StackName": record.name,
        "Description": wanted.template.get("Description"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.parameters.items()],
        "CreationTime": record.created,
        "DeletionTime": record.deleted,
        "LastUpdatedTime": record.updated,
        "StackStatus": record.status,
        "StackStatusReason": record.reason or None,
        "DisableRollback": False,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in record.outputs.items()],
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
    }


def render(action: str, answer: Answer) -> bytes:
    """An answer in the format of AWS's query protocol."""
    return (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{_xml(answer)}</{action}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def _xml(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{_xml(item)}</{key}>" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return "".join(f"<member>{_xml(item)}</member>" for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return escape(str(value).lower() if isinstance(value, bool) else str(value))
