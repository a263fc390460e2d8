"""Checks of an operation's arguments against AWS's own description of the operation.

An argument that the operation does not have could mislead the gate: it would check the resource that this argument
names, and the service would use another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
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
_NUMERIC = ("integer", "long", "float", "double")
_NESTED = ("structure", "list", "map")
_SHOWN = 200
"""Characters of a wrong value in a message."""


def known(service: str, operation: str) -> Any:
    """Return AWS's description of an operation. Refuse one that does not exist, also in another spelling."""
    model = operation_model(service, operation)
    if model is None:
        raise ServiceError("InvalidAction", f"The service {service} has no operation {operation!r}.")
    return model


def check_object(service: str, operation: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a JSON object with members or types that the operation does not have."""
    shape = known(service, operation).input_shape
    if shape is not None:
        _check(shape, arguments, operation)
    elif arguments:
        raise ServiceError("ValidationException", f"{operation} has no arguments.")


def _check(shape: Any, value: Any, place: str) -> None:
    """Refuse a value that does not have the type ``shape``."""
    types = _TYPES[shape.type_name]
    # In Python, a bool is an int.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ServiceError("SerializationException", f"{place} must be a {shape.type_name}.")
    if isinstance(value, dict) and shape.type_name == "structure":
        for name in value.keys() - shape.members.keys():
            raise ServiceError("ValidationException", f"{place} has no member {name!r}.")
    for name, part, item in _parts(shape, value):
        _check(part, item, f"{place}.{name}")


def broken_constraints(service: str, operation: str, arguments: Mapping[str, Any]) -> str:
    """Return the constraints that arguments of the right types break, in AWS's words, or an empty string."""
    shape = known(service, operation).input_shape
    # EC2 has error codes of its own for wrong values. The functions for its operations raise them.
    if shape is None or service == "ec2":
        return ""
    found = [
        f"Value {value} at '{place.rstrip('.')}' failed to satisfy constraint: Member must {rule}"
        for place, value, rule in _broken(shape, arguments)
    ]
    return f"{len(found)} validation error{'s' * (len(found) > 1)} detected: {'; '.join(found)}" if found else ""


def _broken(shape: Any, value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the value and the rule for each constraint that a value of the type ``shape`` breaks."""
    yield from (("", f"'{str(value)[:_SHOWN]}'", rule) for rule in _broken_rules(shape, value))
    if shape.type_name == "structure":
        yield from (
            (_first_small(name), "null", "not be null") for name in shape.required_members if name not in value
        )
    for name, part, item in _parts(shape, value):
        # Most parts have no constraints.
        if part.metadata or part.type_name in _NESTED:
            for place, wrong, rule in _broken(part, item):
                yield f"{_first_small(name)}.{place}", wrong, rule


def _parts(shape: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the type and the value of each part of a value."""
    if shape.type_name == "list":
        yield from ((f"{number}.member", shape.member, item) for number, item in enumerate(value, 1))
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from (("key", shape.key, key), (f"{key}.value", shape.value, item))
    elif shape.type_name == "structure":
        yield from ((name, shape.members[name], item) for name, item in value.items() if name in shape.members)


def _first_small(name: str) -> str:
    """Return the name of a member as in AWS's messages."""
    return name[0].lower() + name[1:]


def _broken_rules(shape: Any, value: Any) -> Iterator[str]:
    about = shape.metadata
    if not about or shape.type_name == "blob":
        return
    if isinstance(value, str):
        if value not in about.get("enum", (value,)):
            yield f"satisfy enum value set: [{', '.join(about['enum'])}]"
        pattern = _compiled(about.get("pattern", ""))
        if pattern is not None and not pattern.fullmatch(value):
            yield f"satisfy regular expression pattern: {pattern.pattern}"
    word, size = ("value", value) if shape.type_name in _NUMERIC else ("length", len(value))
    if size < about.get("min", size):
        yield f"have {word} greater than or equal to {about['min']}"
    if size > about.get("max", size):
        yield f"have {word} less than or equal to {about['max']}"


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern of AWS, or None if there is none, or if it is one of Java's that Python does not know."""
    try:
        return re.compile(pattern, re.ASCII) if pattern else None
    except re.error:
        return None
