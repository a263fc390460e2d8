"""Checks of an operation's arguments against AWS's own description of the operation.

An argument that the operation does not have could mislead the gate: it would check the resource that this argument
names, and the service would use another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudknot.aws.sdk.service_models import operation_model
from cloudknot.local.wsgi import ServiceError

_NUMBERS = (int, float)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "character": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": _NUMBERS,
    "double": _NUMBERS,
    "timestamp": (*_NUMBERS, str),
}
"""The types of decoded JSON for each type of AWS."""


def check_operation(service: str, operation: str) -> None:
    """Refuse an operation that the service does not have, also one in another spelling."""
    if operation_model(service, operation) is None:
        raise ServiceError("InvalidAction", f"The service {service} has no operation {operation!r}.")


def check_object(service: str, operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a JSON object with members or types that the operation does not have."""
    model = operation_model(service, operation)
    shape = model.input_shape if model else None
    if shape is not None:
        _check(shape, arguments, operation)
    elif arguments:
        raise ServiceError("ValidationException", f"{operation} has no arguments.")


def _check(shape: Any, value: object, place: str) -> None:
    """Refuse a value that does not have the type ``shape``."""
    types = _TYPES[shape.type_name]
    # In Python, a bool is an int.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ServiceError("SerializationException", f"{place} must be a {shape.type_name}.")
    if isinstance(value, list):
        for item in value:
            _check(shape.member, item, place)
    elif isinstance(value, dict):
        if shape.type_name == "map":
            members = dict.fromkeys(value, shape.value)
        else:
            members = {
                shape.members[name].serialization.get("name", name): shape.members[name] for name in shape.members
            }
        for name, item in value.items():
            if name not in members:
                raise ServiceError("ValidationException", f"{place} has no member {name!r}.")
            _check(members[name], item, f"{place}.{name}")
