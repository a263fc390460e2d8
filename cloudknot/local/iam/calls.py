"""The call that a request makes to a service other than S3: operation and arguments, whatever the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.types import WSGIEnvironment

from cloudknot.local.wsgi import body_of, form_of, is_xml

_BATCH_OPERATIONS = """
    CancelJob CancelJobs CreateComputeEnvironment CreateJobQueue CreateSchedulingPolicy DeleteComputeEnvironment
    DeleteJobQueue DeleteSchedulingPolicy DeregisterJobDefinition DescribeComputeEnvironments DescribeJobDefinitions
    DescribeJobQueues DescribeJobs DescribeSchedulingPolicies GetJobQueueSnapshot ListJobs ListSchedulingPolicies
    RegisterJobDefinition SubmitJob TerminateJob TerminateJobs UpdateComputeEnvironment UpdateJobQueue
    UpdateSchedulingPolicy
"""
_BATCH = {name.lower(): name for name in _BATCH_OPERATIONS.split()}
"""The operations whose paths are their names in lower case (AWS Batch API reference)."""
_TAGS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
"""The services whose actions are not named as the service that a request is signed for."""


Arguments = Mapping[str, Any]
"""Arguments of an operation, as they were decoded."""


@dataclass(frozen=True)
class Call:
    """One operation of a service, with its arguments: flat names of a form, or the members of a JSON object."""

    service: str
    operation: str
    arguments: Arguments

    @property
    def action(self) -> str:
        return f"{_PREFIXES.get(self.service, self.service)}:{self.operation}"

    def text(self, name: str) -> str:
        """An argument that is a text; empty when it is not there."""
        value = self.arguments.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """An argument that is a list of texts; of a form, ``Name.1``, ``Name.2`` or ``Name.member.1``, ..."""
        value = self.arguments.get(name)
        if isinstance(value, list):
            return [str(one) for one in value]
        starts = (f"{name}.member.", f"{name}.")
        return [
            str(text)
            for key, text in self.arguments.items()
            if any(key.startswith(start) and key[len(start) :].isdigit() for start in starts)
        ]

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the request gives to what it makes."""
        value = self.arguments.get("tags")
        if isinstance(value, Mapping):
            return {str(key): str(text) for key, text in value.items()}
        if isinstance(value, list):
            return {str(one.get("Key", one.get("key"))): str(one.get("Value", one.get("value"))) for one in value}
        ends = {key[: -len(".Key")]: text for key, text in self.arguments.items() if key.endswith(".Key")}
        return {str(text): str(self.arguments.get(f"{start}.Value", "")) for start, text in ends.items()}


def call_of(environ: WSGIEnvironment, service: str) -> Call:
    """The call that a request makes; an operation that cannot be told is called by its path."""
    body = body_of(environ)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if service == "batch":
        return _batch_call(environ, _object(body))
    if target and not is_xml(service):
        return Call(service, target.rpartition(".")[2], _object(body))
    form = form_of(body)
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    # What is asked for in two ways could be answered in the other one.
    named = "+".join(filter(None, (form.get("Action"), query.get("Action"))))
    return Call(service, named or environ["PATH_INFO"], {**form, **query})


def _batch_call(environ: WSGIEnvironment, arguments: Arguments) -> Call:
    path = unquote(environ["REQUEST_URI"].partition("?")[0])
    if path.startswith("/v1/tags/"):
        operation = _TAGS.get(environ["REQUEST_METHOD"], "TagResource")
        return Call("batch", operation, {**arguments, "resourceArn": path.removeprefix("/v1/tags/")})
    name = path.rpartition("/")[2].lower()
    return Call("batch", _BATCH.get(name, name), arguments)


def _object(body: bytes) -> Arguments:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
