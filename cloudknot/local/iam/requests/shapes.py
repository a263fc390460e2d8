"""Checks of an operation's arguments against AWS's own description of the operation.

An argument that the operation does not have could mislead the gate: it would check the resource that this argument
names, and the service would use another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cloudknot.aws.sdk.service_models import operation_model
from cloudknot.local.iam.requests.refusals import Refused

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
_MEMBER = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")


def check_operation(service: str, operation: str) -> None:
    """Refuse an operation that the service does not have, also one in another spelling."""
    if operation_model(service, operation) is None:
        raise Refused("InvalidAction", f"The service {service} has no operation {operation!r}.")


def check_object(service: str, operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a JSON object with members or types that the operation does not have."""
    model = operation_model(service, operation)
    shape = model.input_shape if model else None
    if shape is not None:
        _check(shape, arguments, operation)
    elif arguments:
        raise Refused("ValidationException", f"{operation} has no arguments.")


def check_form(service: str, operation: str, arguments: Mapping[str, str]) -> None:
    """Refuse a form with fields that the operation does not have."""
    known = _form_fields(service, operation)
    for name in arguments:
        first, _, rest = name.partition(".")
        if first not in known or not _MEMBER.fullmatch(name) or (rest and not known[first]):
            raise Refused("ValidationError", f"{operation} has no argument {name!r}.")


@lru_cache(maxsize=256)
def _form_fields(service: str, operation: str) -> dict[str, bool]:
    """Return the fields of a form by name, and whether each has parts: ``Name.1`` or ``Name.Part``."""
    model = operation_model(service, operation)
    if model is None or model.input_shape is None:
        return {}
    members = model.input_shape.members.items()
    return {
        form_name(name, shape, service == "ec2"): shape.type_name in ("structure", "map", "list")
        for name, shape in members
    }


def form_name(name: str, shape: Any, ec2: bool) -> str:
    """Return the name of an argument in a form (botocore's ``QuerySerializer`` and ``EC2Serializer``)."""
    serialization: Mapping[str, str] = shape.serialization
    if ec2:
        other = serialization.get("name", name)
        return serialization.get("queryName") or other[0].upper() + other[1:]
    if shape.type_name == "list" and serialization.get("flattened"):
        return str(shape.member.serialization.get("name") or serialization.get("name", name))
    return serialization.get("name", name)


def _check(shape: Any, value: object, place: str) -> None:
    """Refuse a value that does not have the type ``shape``."""
    types = _TYPES[shape.type_name]
    # In Python, a bool is an int.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise Refused("SerializationException", f"{place} must be a {shape.type_name}.")
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
                raise Refused("ValidationException", f"{place} has no member {name!r}.")
            _check(members[name], item, f"{place}.{name}")
