"""Decoding of a request to a service other than S3 into operation and arguments, for all of AWS's protocols."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from cloudknot.local.iam.requests import fields
from cloudknot.local.iam.requests.refusals import Refused
from cloudknot.local.iam.requests.shapes import check_form, check_object, check_operation
from cloudknot.local.iam.signing import Request

_BATCH_OPERATIONS = """
    CancelJob CancelJobs CreateComputeEnvironment CreateJobQueue CreateSchedulingPolicy DeleteComputeEnvironment
    DeleteJobQueue DeleteSchedulingPolicy DeregisterJobDefinition DescribeComputeEnvironments DescribeJobDefinitions
    DescribeJobQueues DescribeJobs DescribeSchedulingPolicies GetJobQueueSnapshot ListJobs ListSchedulingPolicies
    RegisterJobDefinition SubmitJob TerminateJob TerminateJobs UpdateComputeEnvironment UpdateJobQueue
    UpdateSchedulingPolicy
"""
_BATCH = {f"/v1/{name.lower()}": name for name in _BATCH_OPERATIONS.split()}
"""The operations, by their paths (AWS Batch API reference)."""
_TAGS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
_TAG_PATH = "/v1/tags/"
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
"""The prefixes of actions in policies, for services with another name in signatures."""
_VERSIONS = {"cloudformation": "2010-05-15", "ec2": "2016-11-15", "iam": "2010-05-08", "sts": "2011-06-15"}
"""The services with AWS's query protocol, and the versions of their APIs."""
_TARGETS = {
    "codebuild": "CodeBuild_20161006",
    "ecr": "AmazonEC2ContainerRegistry_V20150921",
    "logs": "Logs_20140328",
}
"""The services with AWS's JSON protocol, and the prefixes in their header X-Amz-Target."""
_TARGET = re.compile(r"([A-Za-z0-9_]+)\.([A-Za-z0-9]+)")
_ACTION = re.compile(r"[A-Za-z0-9]+")

Arguments = Mapping[str, Any]
"""The decoded arguments of an operation."""


@dataclass(frozen=True)
class Call:
    """One call of an operation. The arguments are the members of a JSON object, or the fields of a form.

    ``target`` is the header X-Amz-Target of a call in AWS's JSON protocol, and ``version`` that of the API in AWS's
    query protocol. A call with neither is one of Batch.
    """

    service: str
    operation: str
    arguments: Arguments
    target: str = ""
    version: str = ""

    @property
    def action(self) -> str:
        """The name of the operation in policies, for example ``"batch:SubmitJob"``."""
        return f"{_PREFIXES.get(self.service, self.service)}:{self.operation}"

    @property
    def method(self) -> str:
        """The HTTP method."""
        verbs = {operation: verb for verb, operation in _TAGS.items()}
        return verbs.get(self.operation, "POST") if self.service == "batch" else "POST"

    @property
    def uri(self) -> str:
        """The raw path and query."""
        if self.service != "batch":
            return "/"
        if self.operation not in _TAGS.values():
            return f"/v1/{self.operation.lower()}"
        keys = [("tagKeys", key) for key in self.arguments.get("tagKeys", ())]
        return _TAG_PATH + quote(self.arguments["resourceArn"], safe="") + (f"?{urlencode(keys)}" if keys else "")

    @property
    def body(self) -> bytes:
        """The body, written anew, so that it has one reading only."""
        if self.version:
            return urlencode({"Action": self.operation, "Version": self.version, **self.arguments}).encode()
        named_in_uri = ("resourceArn", "tagKeys") if self.uri.startswith(_TAG_PATH) else ()
        arguments = {name: value for name, value in self.arguments.items() if name not in named_in_uri}
        return json.dumps(arguments).encode() if arguments or self.method == "POST" else b""

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


def make_call(service: str, operation: str, arguments: Arguments) -> Call:
    """Return a call to one of the services that cloudknot uses."""
    target = f"{_TARGETS[service]}.{operation}" if service in _TARGETS else ""
    return Call(service, operation, arguments, target, _VERSIONS.get(service, ""))


def read_call(request: Request, service: str, body: bytes) -> Call | None:
    """Return the call in a request to a service other than S3, or None for a protocol that is not known here.

    Raises
    ------
    Refused
        The request has several readings, or the operation does not have such arguments.
    """
    if service == "batch":
        return _batch_call(request, body)
    target = request.headers.get("x-amz-target", "")
    if request.path != "/":
        if service in _VERSIONS or service in _TARGETS or target:
            raise Refused("UnknownOperationException", f"The path of a call to {service} is /, not {request.path!r}.")
        return None
    if service in _VERSIONS or (service not in _TARGETS and not target):
        return _form_call(request, service, body)
    return _json_call(request, service, target, body)


def _json_call(request: Request, service: str, target: str, body: bytes) -> Call:
    parts = _TARGET.fullmatch(target)
    if parts is None or request.method != "POST" or request.query_pairs:
        raise Refused("UnknownOperationException", f"A call to {service} is a POST to / with one X-Amz-Target.")
    prefix, operation = parts.groups()
    arguments = fields.json_object(body)
    if service in _TARGETS:
        if prefix != _TARGETS[service]:
            raise Refused("UnknownOperationException", f"X-Amz-Target {target!r} is not one of the service {service}.")
        check_operation(service, operation)
        check_object(service, operation, arguments)
    return Call(service, operation, arguments, target)


def _form_call(request: Request, service: str, body: bytes) -> Call | None:
    """Return the call in a form, which is either the body or the query."""
    if "x-amz-target" in request.headers or (body and request.query_pairs):
        raise Refused("InvalidParameterCombination", "The arguments are either in the body or in the query.")
    arguments = fields.form(body) if body else fields.unique(request.query_pairs)
    operation, version = arguments.pop("Action", ""), arguments.pop("Version", "")
    if service not in _VERSIONS:
        return Call(service, operation, arguments, "", version) if version and _ACTION.fullmatch(operation) else None
    if request.method not in ("GET", "POST") or version not in ("", _VERSIONS[service]):
        raise Refused("InvalidAction", f"A call to {service} is a POST of version {_VERSIONS[service]}.")
    check_operation(service, operation)
    check_form(service, operation, arguments)
    return Call(service, operation, arguments, "", _VERSIONS[service])


def _batch_call(request: Request, body: bytes) -> Call:
    if "x-amz-target" in request.headers:
        raise Refused("ClientException", "A call to Batch has no X-Amz-Target.")
    if request.path.startswith(_TAG_PATH):
        operation = _TAGS.get(request.method, "")
        keys = request.query_pairs if operation == "UntagResource" else []
        arn = fields.decoded(request.path.removeprefix(_TAG_PATH))
        named = {"tagKeys": [value for _, value in keys]} if keys else {}
        arguments = {**fields.json_object(body), "resourceArn": arn, **named}
        is_known = operation and {name for name, _ in keys} <= {"tagKeys"} and keys == request.query_pairs
    else:
        operation, arguments = _BATCH.get(request.path, ""), fields.json_object(body)
        is_known = operation and request.method == "POST" and not request.query_pairs
    if not is_known:
        raise Refused("ClientException", f"Batch has no operation {request.method} {request.uri!r}.", 404)
    check_operation("batch", operation)
    check_object("batch", operation, arguments)
    return Call("batch", operation, arguments)
