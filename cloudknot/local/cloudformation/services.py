"""Calls to the AWS services on behalf of a stack's resources.

This module converts CloudFormation's properties to arguments of an operation, and errors to CloudFormation's reasons.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudknot.aws.door import Door
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException
from cloudknot.local.cloudformation.records import Properties, ResourceError
from cloudknot.local.directory.documents import CALL_HEADER

_MISSING = ("NotFound", "NotAttached")
"""Ends of EC2's codes for a missing resource, and for a gateway that is detached already."""
_call = threading.local()
"""The id of the call that this thread makes. All stacks of a caller share clients."""


def _add_id(params: dict[str, Any], **_: object) -> None:
    """Add the id to a request, by which the service recognises its repetition."""
    if identifier := getattr(_call, "id", None):
        params["headers"][CALL_HEADER] = identifier


@dataclass(frozen=True)
class CreatedResource:
    """The physical id and the attributes of a resource that its service created or updated."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The AWS services for one operation on one resource of a stack.

    Parameters
    ----------
    door : Door
        Makes calls with the key of the caller who created, updated or deleted the stack.
    stack, logical_id : str
    token : str, optional
        Identifies the calls. The services carry out calls of the same token once, and repeat their answers.
    """

    def __init__(self, door: Door, stack: str, logical_id: str, token: str = "") -> None:
        self._door, self._stack, self._logical_id = door, stack, logical_id
        self._token, self._calls = token, 0
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
        converted = arguments(self._door, service, operation, properties)
        self._calls += 1
        _call.id = f"{self._token}:{self._calls}" if self._token else None
        # Registered once for each client: botocore ignores a handler with a known id.
        self._door.client(service).meta.events.register("before-call", _add_id, unique_id=CALL_HEADER)
        try:
            return self._door.call(service, _method(self._door, service, operation), **converted)
        except CloudknotError as error:
            raise ResourceError(_reason(error, service)) from error
        finally:
            _call.id = None

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
            cause = error.__cause__
            is_missing = isinstance(cause, ResourceDoesNotExistException)
            # EC2's codes name the kind of resource, such as InvalidVpcID.NotFound.
            if not is_missing and not (isinstance(cause, CloudError) and cause.code.endswith(_MISSING)):
                raise

    def new_name(self, max_length: int = 64) -> str:
        """Return a unique name in CloudFormation's format: stack, logical id and random characters."""
        # The same name in a repetition.
        end = f"-{self._logical_id}-{self._token[:12]}"
        return self._stack[: max_length - len(end)] + end


def _method(door: Door, service: str, operation: str) -> str:
    """Return the name of the client method for an operation, such as ``create_vpc``."""
    methods: Mapping[str, str] = door.client(service).meta.method_to_api_mapping
    return next(method for method, name in methods.items() if name == operation)


def _reason(error: CloudknotError, service: str) -> str:
    """Return the reason for a failed resource in the words of CloudFormation's resource handlers."""
    # CloudFormation quotes the service, so the service's own answer goes before cloudknot's translation of it.
    answer = getattr(error.__context__, "response", {})
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
    """Return ``properties`` with the types and the spelling of an operation such as ``"CreateVpc"``.

    Raises
    ------
    ResourceError
        The operation has no argument for one of the properties.
    """
    shape = door.client(service).meta.service_model.operation_model(operation).input_shape
    return _structure(shape, properties)


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
