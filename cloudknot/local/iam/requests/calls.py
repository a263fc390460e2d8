"""Decoding of a request to a service other than S3 into operation and arguments, for all of AWS's protocols."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudknot.aws.sdk.service_models import service_model
from cloudknot.local.iam.requests import fields
from cloudknot.local.iam.requests.refusals import Refused
from cloudknot.local.iam.requests.routes import find_route
from cloudknot.local.iam.requests.shapes import check_form, check_object, check_operation
from cloudknot.local.iam.signing import Request

SERVICES = frozenset({"batch", "cloudformation", "codebuild", "ec2", "ecr", "iam", "logs", "sts"})
"""The services whose requests are read by AWS's description of their API, which botocore has."""
_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
"""The prefixes of actions in policies, for services with another name in signatures."""
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


def read_call(request: Request, service: str, body: bytes) -> Call | None:
    """Return the call in a request to a service other than S3, or None for a protocol that is not known here.

    Raises
    ------
    Refused
        The request has several readings, or the operation does not have such arguments.
    """
    is_known, target = service in SERVICES, request.headers.get("x-amz-target", "")
    if is_known and _speaks(service, "rest-json"):
        return _rest_call(request, service, body)
    if request.path != "/":
        if is_known or target:
            raise Refused("UnknownOperationException", f"The path of a call to {service} is /, not {request.path!r}.")
        return None
    if _speaks(service, "query", "ec2") if is_known else not target:
        return _form_call(request, service, body)
    return _json_call(request, service, target, body)


def _speaks(service: str, *protocols: str) -> bool:
    """Return whether a service has one of AWS's protocols. Some services have several."""
    about = service_model(service).metadata
    return not {*about.get("protocols", ()), about["protocol"]}.isdisjoint(protocols)


def _json_call(request: Request, service: str, target: str, body: bytes) -> Call:
    parts = _TARGET.fullmatch(target)
    if parts is None or request.method != "POST" or request.query_pairs:
        raise Refused("UnknownOperationException", f"A call to {service} is a POST to / with one X-Amz-Target.")
    prefix, operation = parts.groups()
    arguments = fields.json_object(body)
    if service in SERVICES:
        if prefix != service_model(service).metadata["targetPrefix"]:
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
    if service not in SERVICES:
        return Call(service, operation, arguments, "", version) if version and _ACTION.fullmatch(operation) else None
    known = service_model(service).metadata["apiVersion"]
    if request.method not in ("GET", "POST") or version not in ("", known):
        raise Refused("InvalidAction", f"A call to {service} is a POST of version {known}.")
    check_operation(service, operation)
    check_form(service, operation, arguments)
    return Call(service, operation, arguments, "", known)


def _rest_call(request: Request, service: str, body: bytes) -> Call:
    if "x-amz-target" in request.headers:
        raise Refused("ClientException", f"A call to {service} has no X-Amz-Target.")
    found = find_route(service, request.method, request.path)
    if found is None or not {name for name, _ in request.query_pairs} <= found[0].in_query:
        raise Refused("ClientException", f"{service} has no operation {request.method} {request.uri!r}.", 404)
    route, in_path = found
    # All arguments in queries of these services are lists.
    in_query: dict[str, list[str]] = {}
    for name, value in request.query_pairs:
        in_query.setdefault(name, []).append(value)
    named = [(name, fields.decoded(text)) for name, text in in_path.items()]
    # An argument in two places has two values, of which each reader may take another one.
    arguments = fields.unique([*fields.json_object(body).items(), *named, *in_query.items()])
    check_object(service, route.operation, arguments)
    return Call(service, route.operation, arguments)
