"""Decoding of a request to a service other than S3 into operation and arguments, for all of AWS's protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote
from wsgiref.types import WSGIEnvironment

from cloudknot.local.wsgi import is_xml, parse_form, read_body

_BATCH_OPERATIONS = """
    CancelJob CancelJobs CreateComputeEnvironment CreateJobQueue CreateSchedulingPolicy DeleteComputeEnvironment
    DeleteJobQueue DeleteSchedulingPolicy DeregisterJobDefinition DescribeComputeEnvironments DescribeJobDefinitions
    DescribeJobQueues DescribeJobs DescribeSchedulingPolicies GetJobQueueSnapshot ListJobs ListSchedulingPolicies
    RegisterJobDefinition SubmitJob TerminateJob TerminateJobs UpdateComputeEnvironment UpdateJobQueue
    UpdateSchedulingPolicy
"""
_BATCH = {name.lower(): name for name in _BATCH_OPERATIONS.split()}
"""The operations, by the last part of their paths: the name in lower case (AWS Batch API reference)."""
_TAGS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
"""The prefixes of actions in policies, for services with another name in signatures."""


Arguments = Mapping[str, Any]
"""The decoded arguments of an operation."""


@dataclass(frozen=True)
class Call:
    """One call of an operation. The arguments are the members of a JSON object, or the fields of a form."""

    service: str
    operation: str
    arguments: Arguments

    @property
    def action(self) -> str:
        """The name of the operation in policies, for example ``"batch:SubmitJob"``."""
        return f"{_PREFIXES.get(self.service, self.service)}:{self.operation}"

    def text(self, name: str) -> str:
        """Return a string argument, or an empty string if it is missing."""
        value = self.arguments.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """Return the strings of a list argument. In a form, the first item is ``Name.1`` or ``Name.member.1``."""
        value = self.arguments.get(name)
        if isinstance(value, list):
            return [str(item) for item in value]
        starts = (f"{name}.member.", f"{name}.")
        return [
            str(text)
            for key, text in self.arguments.items()
            if any(key.startswith(start) and key[len(start) :].isdigit() for start in starts)
        ]

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the request sets on a resource."""
        value = self.arguments.get("tags")
        if isinstance(value, Mapping):
            return {str(key): str(text) for key, text in value.items()}
        if isinstance(value, list):
            # ECR writes Key and Value, other JSON services key and value.
            return {str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value"))) for tag in value}
        ends = {key[: -len(".Key")]: text for key, text in self.arguments.items() if key.endswith(".Key")}
        return {str(text): str(self.arguments.get(f"{start}.Value", "")) for start, text in ends.items()}


def decode_call(environ: WSGIEnvironment, service: str) -> Call:
    """Return the call that a request makes. The path stands for an operation that cannot be decoded."""
    body = read_body(environ)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if service == "batch":
        return _batch_call(environ, _object(body))
    if target and not is_xml(service):
        return Call(service, target.rpartition(".")[2], _object(body))
    form = parse_form(body)
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    # With one action in the body and another in the query, this check could see one and the service carry out the
    # other. Joined, they form a name that a policy for one of them does not match.
    action = "+".join(filter(None, (form.get("Action"), query.get("Action"))))
    return Call(service, action or environ["PATH_INFO"], {**form, **query})


def _batch_call(environ: WSGIEnvironment, arguments: Arguments) -> Call:
    path = unquote(environ["REQUEST_URI"].partition("?")[0])
    if path.startswith("/v1/tags/"):
        operation = _TAGS.get(environ["REQUEST_METHOD"], "TagResource")
        return Call("batch", operation, {**arguments, "resourceArn": path.removeprefix("/v1/tags/")})
    name = path.rpartition("/")[2].lower()
    return Call("batch", _BATCH.get(name, name), arguments)


def _object(body: bytes) -> Arguments:
    """Return the JSON object in a body, or an empty one if the body is anything else."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
