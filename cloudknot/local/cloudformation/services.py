"""Calls to the AWS services on behalf of a stack's resources.

This module converts CloudFormation's properties to arguments of an operation, and errors to CloudFormation's reasons.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudknot.aws.sdk.service_models import operation_model
from cloudknot.local.cloudformation.calls import StackCalls
from cloudknot.local.cloudformation.records import Properties, ResourceError
from cloudknot.local.wsgi import ServiceError

_MISSING = ("NoSuchEntity", "ResourceNotFoundException", "NotFound", "NotAttached")
"""Codes for a missing resource. EC2's name the kind of resource, such as InvalidVpcID.NotFound."""


@dataclass(frozen=True)
class CreatedResource:
    """The physical id and the attributes of a resource that its service created or updated."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The AWS services for one operation on one resource of a stack.

    Parameters
    ----------
    calls : StackCalls
        Makes calls with the key of the caller who created, updated or deleted the stack.
    stack, logical_id : str
    token : str, optional
        Identifies the calls. The services carry out calls of the same token once, and repeat their answers.
    """

    def __init__(self, calls: StackCalls, stack: str, logical_id: str, token: str = "") -> None:
        self._calls, self._stack, self._logical_id = calls, stack, logical_id
        self._token, self._count = token, 0
        self.created: CreatedResource | None = None

    def mark_created(self, physical_id: str, attributes: Mapping[str, str] | None = None) -> CreatedResource:
        """Record that the resource exists. If a later step of its creation fails, the deployment deletes it."""
        self.created = CreatedResource(physical_id, attributes or {})
        return self.created

    def call(self, service: str, operation: str, properties: Properties) -> Properties:
        """Call an operation such as ``"CreateVpc"``, and return its answer.

        Raises
        ------
        ResourceError
            The service refused the call. The text has the service's own reason.
        """
        converted = arguments(service, operation, properties)
        self._count += 1
        identifier = f"{self._token}:{self._count}" if self._token else ""
        try:
            answer: Properties = self._calls.call(service, operation, converted, identifier)
        except ServiceError as error:
            raise ResourceError(_reason(error, service)) from error
        return answer

    def delete(self, service: str, operation: str, properties: Properties) -> None:
        """Call an operation that deletes a resource. A missing resource is no error."""
        self._call_unless_missing(service, operation, properties)

    def read(self, service: str, operation: str, properties: Properties) -> None:
        """Call an operation that only needs to be allowed. A missing resource is no error."""
        self._call_unless_missing(service, operation, properties)

    def _call_unless_missing(self, service: str, operation: str, properties: Properties) -> None:
        try:
            self.call(service, operation, properties)
        except ResourceError as error:
            if not is_missing(error):
                raise

    def new_name(self, max_length: int = 64) -> str:
        """Return a unique name in CloudFormation's format: stack, logical id and random characters."""
        # The same name in a repetition.
        end = f"-{self._logical_id}-{self._token[:12]}"
        return self._stack[: max_length - len(end)] + end


def is_missing(error: ResourceError) -> bool:
    """Return whether a service refused a call because the resource does not exist."""
    cause = error.__cause__
    return isinstance(cause, ServiceError) and cause.code.endswith(_MISSING)


def _reason(error: ServiceError, service: str) -> str:
    """Return the reason for a failed resource in the words of CloudFormation's resource handlers."""
    code, message = error.code, error.args[0]
    handler = "AlreadyExists" if "xists" in code or "already exists" in message else "GeneralServiceException"
    handler = "AccessDenied" if "Denied" in code or "Unauthorized" in code else handler
    source = f"Service: {service.capitalize()}, Status Code: {error.status}"
    text = f'Resource handler returned message: "{message} ({source}, Request ID: {uuid.uuid4()})"'
    return f"{text} (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {handler})"


def arguments(service: str, operation: str, properties: Properties) -> dict[str, object]:
    """Return ``properties`` with the types and the spelling of an operation such as ``"CreateVpc"``.

    Raises
    ------
    ResourceError
        The operation has no argument for one of the properties.
    """
    model = operation_model(service, operation)
    assert model is not None
    return _structure(model.input_shape, properties)


def _structure(shape: Any, properties: Properties) -> dict[str, object]:
    # CloudFormation and the services differ in the case of the first letter. Some arguments of a service are plurals
    # of the property's name.
    members = {name.lower(): name for name in shape.members}
    converted: dict[str, object] = {}
    for name, value in properties.items():
        member = members.get(name.lower()) or members.get(f"{name.lower()}s")
        if member is None:
            raise ResourceError(f"Properties validation failed: extraneous key [{name}] is not permitted")
        converted[member] = _convert(shape.members[member], value)
    return converted


def _convert(shape: Any, value: Any) -> object:
    # CloudFormation's parameters and functions return text, where the API requires numbers and booleans.
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value)
    if kind == "list":
        return [_convert(shape.member, item) for item in value]
    if kind == "map":
        # Most kinds have a list of tags. Some services take a map.
        items = [(tag["Key"], tag["Value"]) for tag in value] if isinstance(value, list) else value.items()
        return {str(key): _convert(shape.value, item) for key, item in items}
    if kind == "boolean":
        return str(value).lower() == "true"
    if kind in ("integer", "long"):
        return int(value)
    # A policy is a dict in a template, and a string in the API of IAM.
    return json.dumps(value) if isinstance(value, dict) else str(value)
