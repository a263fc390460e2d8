"""A kind of resource: how it is made, changed and deleted with its service's public API."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudknot.aws.door import Door
from cloudknot.errors import CloudError, CloudknotError, ResourceDoesNotExistException
from cloudknot.local.cloudformation.records import Resource, ResourceError
from cloudknot.local.cloudformation.requests import arguments

Properties = Mapping[str, Any]


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

    def call(self, service: str, operation: str, properties: Properties) -> dict[str, Any]:
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


class Kind:
    """One type of resource.

    ``name`` is the property that names it, if there is one, and ``in_place`` those that can be changed without a new
    one being made.
    """

    name = ""
    in_place: frozenset[str] = frozenset()
    renewed_by_name = False
    """Whether another one of the same name can be made beside it, as with revisions."""

    def create(self, services: Services, properties: Properties) -> Made:
        """Make it, and say so by `Services.made` as soon as there is something to delete."""
        raise NotImplementedError

    def update(self, services: Services, resource: Resource, properties: Properties) -> Made:
        """Bring what is in `in_place` up to date."""
        raise NotImplementedError

    def delete(self, services: Services, resource: Resource) -> None:
        raise NotImplementedError

    def survives_renewal(self, properties: Properties) -> bool:
        """Whether the old one stays when another has been made in its place."""
        return False


def without(properties: Properties, *names: str) -> dict[str, Any]:
    """The properties that CloudFormation's resource has and the operation has not, left out."""
    return {name: value for name, value in properties.items() if name not in names}


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
