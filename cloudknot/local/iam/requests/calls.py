"""Decoding of a request to a service other than S3 into operation and arguments, for all of AWS's protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudknot.aws.sdk.service_models import service_model
from cloudknot.local.iam.requests import fields
from cloudknot.local.iam.requests.query_protocol import read_form
from cloudknot.local.iam.requests.routes import find_route
from cloudknot.local.iam.requests.shapes import check_object
from cloudknot.local.iam.signing import Request
from cloudknot.local.wsgi import ServiceError

SERVICES = frozenset({"batch", "cloudformation", "codebuild", "ec2", "ecr", "iam", "logs", "sts"})
"""The services whose requests are read by AWS's description of their API, which botocore has."""
_TARGET = re.compile(r"([A-Za-z0-9_]+)\.([A-Za-z0-9]+)")

Arguments = Mapping[str, Any]
"""The decoded arguments of an operation."""


@dataclass(frozen=True)
class Call:
    """One call of an operation, with its arguments by their names in AWS's description of it."""

    service: str
    operation: str
    arguments: Arguments

    @property
    def action(self) -> str:
        """The name of the operation in policies, for example ``"batch:SubmitJob"``."""
        return f"{self.service}:{self.operation}"

    def text(self, name: str) -> str:
        """Return a string argument, or an empty string if it is missing."""
        value = self.arguments.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """Return the strings of a list argument."""
        value = self.arguments.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the request sets on a resource."""
        tags = self.arguments.get("tags") or self.arguments.get("Tags") or ()
        if isinstance(tags, Mapping):
            return {str(key): str(text) for key, text in tags.items()}
        of_ec2 = (tag for place in self.arguments.get("TagSpecifications", ()) for tag in place.get("Tags", ()))
        # CodeBuild writes key and value, other services Key and Value.
        every = (tag for tag in (*tags, *of_ec2) if isinstance(tag, Mapping))
        return {str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value", ""))) for tag in every}


def load_ahead(services: Iterable[str]) -> None:
    """Load the descriptions that reading the calls of these services needs."""
    for service in services:
        if _speaks(service, "rest-json"):
            find_route(service, "GET", "/")


def read_call(request: Request, service: str, body: bytes) -> Call:
    """Return the call in a request to a service other than S3.

    Raises
    ------
    ServiceError
        The request has several readings, or the service or the operation does not have such arguments.
    """
    if service not in SERVICES:
        raise ServiceError("InvalidAction", f"The embedded cloud has no service {service!r}, which needs AWS itself.")
    if _speaks(service, "rest-json"):
        return _rest_call(request, service, body)
    if request.path != "/":
        raise ServiceError("UnknownOperationException", f"The path of a call to {service} is /, not {request.path!r}.")
    read = _form_call if _speaks(service, "query", "ec2") else _json_call
    return read(request, service, body)


def _speaks(service: str, *protocols: str) -> bool:
    """Return whether a service has one of AWS's protocols. Some services have several."""
    about = service_model(service).metadata
    return not {*about.get("protocols", ()), about["protocol"]}.isdisjoint(protocols)


def _json_call(request: Request, service: str, body: bytes) -> Call:
    parts = _TARGET.fullmatch(request.headers.get("x-amz-target", ""))
    if parts is None or request.method != "POST" or request.query_pairs:
        raise ServiceError("UnknownOperationException", f"A call to {service} is a POST to / with one X-Amz-Target.")
    prefix, operation = parts.groups()
    if prefix != service_model(service).metadata["targetPrefix"]:
        message = f"X-Amz-Target {parts[0]!r} is not one of the service {service}."
        raise ServiceError("UnknownOperationException", message)
    arguments = fields.json_object(body)
    check_object(service, operation, arguments)
    return Call(service, operation, arguments)


def _form_call(request: Request, service: str, body: bytes) -> Call:
    """Return the call in a form, which is either the body or the query."""
    if "x-amz-target" in request.headers or (body and request.query_pairs):
        raise ServiceError("InvalidParameterCombination", "The arguments are either in the body or in the query.")
    form = fields.form(body) if body else fields.unique(request.query_pairs)
    operation, version = form.pop("Action", ""), form.pop("Version", "")
    known = service_model(service).metadata["apiVersion"]
    if request.method not in ("GET", "POST") or version not in ("", known):
        raise ServiceError("InvalidAction", f"A call to {service} is a POST of version {known}.")
    return Call(service, operation, read_form(service, operation, form))


def _rest_call(request: Request, service: str, body: bytes) -> Call:
    if "x-amz-target" in request.headers:
        raise ServiceError("ClientException", f"A call to {service} has no X-Amz-Target.")
    found = find_route(service, request.method, request.path)
    if found is None or not {name for name, _ in request.query_pairs} <= found[0].in_query:
        raise ServiceError("ClientException", f"{service} has no operation {request.method} {request.uri!r}.", 404)
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
