"""The AWS services as a stack's resources call them: CloudFormation's properties in, its failures out.

Properties have the names of an operation's arguments but for the first letter's case. CloudFormation has text where
the service has numbers.
"""

from __future__ import annotations

import json
import secrets
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudknot.aws.door import Door
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException
from cloudknot.local.cloudformation.records import Properties, ResourceError


@dataclass(frozen=True)
class Made:
    """A resource as its service made it."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The services, as the resource of one logical id of one stack is worked on.

    Parameters
    ----------
    door : Door
        Signs with the key of whoever asked for the stack.
    stack, logical_id : str
    """

    def __init__(self, door: Door, stack: str, logical_id: str) -> None:
        self._door, self._stack, self._logical_id = door, stack, logical_id
        self.begun: Made | None = None

    def made(self, physical_id: str, attributes: Mapping[str, str] | None = None) -> Made:
        """The service has made the resource. Should what else there is to do fail, it will be deleted."""
        self.begun = Made(physical_id, attributes or {})
        return self.begun

    def call(self, service: str, operation: str, properties: Properties) -> Properties:
        """Call an operation (``"CreateVpc"``); what it refuses is a `ResourceError` with the service's reason."""
        ready = arguments(self._door, service, operation, properties)
        try:
            return self._door.call(service, _method(self._door, service, operation), **ready)
        except CloudknotError as error:
            raise ResourceError(_reason(error, service)) from error

    def delete(self, service: str, operation: str, properties: Properties) -> None:
        """Call an operation that deletes; what is not there any more need not be deleted."""
        try:
            self.call(service, operation, properties)
        except ResourceError as error:
            cause = error.__cause__
            gone = isinstance(cause, ResourceDoesNotExistException)
            if not gone and not (isinstance(cause, CloudError) and cause.code.endswith("NotFound")):
                raise

    def new_name(self, longest: int = 64) -> str:
        """A name that no other resource has, as CloudFormation makes it."""
        end = f"-{self._logical_id}-" + "".join(
            secrets.choice(string.ascii_letters + string.digits) for _ in range(12)
        )
        return self._stack[: longest - len(end)] + end


def _method(door: Door, service: str, operation: str) -> str:
    """The name of an operation as its client's method has it."""
    methods: Mapping[str, str] = door.client(service).meta.method_to_api_mapping
    return next(method for method, name in methods.items() if name == operation)


def _reason(error: CloudknotError, service: str) -> str:
    """Why a resource failed, as CloudFormation's resource handlers word it."""
    answer = getattr(error.__cause__, "response", {})
    message = answer.get("Error", {}).get("Message") or str(error)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    code = getattr(error, "code", "")
    handler = "AlreadyExists" if "xists" in code or "already exists" in message else "GeneralServiceException"
    handler = "AccessDenied" if "Denied" in code or "Unauthorized" in code else handler
    return (
        f'Resource handler returned message: "{message} (Service: {service.capitalize()}, Status Code: {status}, '
        f'Request ID: {uuid.uuid4()})" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {handler})'
    )


def arguments(door: Door, service: str, operation: str, properties: Properties) -> dict[str, object]:
    """Return ``properties`` in the types and the spelling of an operation (``"CreateVpc"``).

    Raises `ResourceError` for a property that it does not have.
    """
    shape = door.client(service).meta.service_model.operation_model(operation).input_shape
    return _structure(shape, properties)


def _structure(shape: Any, properties: Properties) -> dict[str, object]:
    members = {name.lower(): name for name in shape.members}
    converted: dict[str, object] = {}
    for name, value in properties.items():
        member = members.get(name.lower()) or members.get(f"{name.lower()}s")
        if member is None:
            raise ResourceError(f"Properties validation failed: extraneous key [{name}] is not permitted")
        converted[member] = _convert(shape.members[member], value)
    return converted


def _convert(shape: Any, value: Any) -> object:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value)
    if kind == "list":
        return [_convert(shape.member, item) for item in value]
    if kind == "map":
        return {str(key): _convert(shape.value, item) for key, item in value.items()}
    if kind == "boolean":
        return str(value).lower() == "true"
    if kind in ("integer", "long"):
        return int(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
