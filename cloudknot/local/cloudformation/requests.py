"""CloudFormation's properties as the arguments of a service's operation.

Both have the same names but for the first letter's case; CloudFormation has text where the service has numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cloudknot.aws.door import Door
from cloudknot.local.cloudformation.records import ResourceError


def arguments(door: Door, service: str, operation: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """``properties`` in the types and the spelling of an operation (``"CreateVpc"``).

    Raises `ResourceError` for a property that it does not have.
    """
    shape = door.client(service).meta.service_model.operation_model(operation).input_shape
    converted: dict[str, Any] = _structure(shape, properties)
    return converted


def _structure(shape: Any, properties: Mapping[str, Any]) -> dict[str, Any]:
    members = {name.lower(): name for name in shape.members}
    converted = {}
    for name, value in properties.items():
        member = members.get(name.lower()) or members.get(f"{name.lower()}s")
        if member is None:
            raise ResourceError(f"Properties validation failed: extraneous key [{name}] is not permitted")
        converted[member] = _convert(shape.members[member], value)
    return converted


def _convert(shape: Any, value: Any) -> Any:
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
