"""AWS's query protocol for a service: forms into arguments, and answers into XML, as botocore describes them.

EC2 has a protocol of its own, which differs in the names of fields and in the outermost element.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from cloudknot.local.iam.requests.shapes import known
from cloudknot.local.wsgi import ServiceError

_Tree = dict[str, Any]
"""The fields of a form by the parts of their names: ``{"Tag": {"1": {"Key": "k"}}}`` for ``Tag.1.Key=k``."""


def read_form(service: str, operation: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments in a form, by their names in AWS's description of the operation.

    Raises
    ------
    ServiceError
        The operation has no such argument, or a value does not have the type of its argument.
    """
    shape = known(service, operation).input_shape
    if shape is None and form:
        raise ServiceError("ValidationError", f"{operation} has no arguments.")
    return _structure(shape, _tree(form), operation, service == "ec2") if shape is not None else {}


def _tree(form: Mapping[str, str]) -> _Tree:
    tree: _Tree = {}
    for name, value in form.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ServiceError("ValidationError", f"The argument {name!r} has a value and parts.")
        if last in node:
            raise ServiceError("ValidationError", f"The argument {name!r} has a value and parts.")
        node[last] = value
    return tree


def _structure(shape: Any, tree: _Tree, place: str, ec2: bool) -> dict[str, Any]:
    names = {_form_name(name, member, ec2): name for name, member in shape.members.items()}
    if unknown := sorted(tree.keys() - names.keys()):
        raise ServiceError("ValidationError", f"{place} has no argument {unknown[0]!r}.")
    return {names[key]: _value(shape.members[names[key]], value, key, ec2) for key, value in tree.items()}


def _form_name(name: str, shape: Any, ec2: bool) -> str:
    """Return the name of an argument in a form (botocore's ``QuerySerializer`` and ``EC2Serializer``)."""
    serialization: Mapping[str, str] = shape.serialization
    if ec2:
        other = serialization.get("name", name)
        return serialization.get("queryName") or other[0].upper() + other[1:]
    if shape.type_name == "list" and serialization.get("flattened"):
        return str(shape.member.serialization.get("name") or serialization.get("name", name))
    return serialization.get("name", name)


def _value(shape: Any, value: Any, name: str, ec2: bool) -> Any:
    if (shape.type_name in ("structure", "list", "map")) != isinstance(value, dict):
        # The only text for a list is that of an empty one.
        if shape.type_name == "list" and value == "":
            return []
        raise ServiceError("ValidationError", f"The argument {name!r} must be a {shape.type_name}.")
    if shape.type_name == "structure":
        return _structure(shape, value, name, ec2)
    if shape.type_name == "list":
        items = value if ec2 or shape.serialization.get("flattened") else _only(value, "member", name)
        return [_value(shape.member, items[key], name, ec2) for key in sorted(items, key=_number)]
    if shape.type_name == "map":
        numbered = _only(value, "entry", name)
        entries = [numbered[key] for key in sorted(numbered, key=_number)]
        return {entry["key"]: _value(shape.value, entry["value"], name, ec2) for entry in entries}
    return _scalar(shape, str(value), name)


def _only(tree: _Tree, part: str, name: str) -> _Tree:
    """Return the items of an argument, which all have a part in their names."""
    items: object = tree.get(part)
    if tree.keys() != {part} or not isinstance(items, dict):
        raise ServiceError("ValidationError", f"The items of the argument {name!r} are {name}.{part}.1 and so on.")
    return items


def _number(key: str) -> int:
    if not (key.isascii() and key.isdigit()):
        raise ServiceError("ValidationError", f"An item of a list has a number, not {key!r}.")
    return int(key)


def _scalar(shape: Any, text: str, name: str) -> str | int | bool:
    if shape.type_name == "boolean" and text in ("true", "false"):
        return text == "true"
    if shape.type_name in ("integer", "long") and text.lstrip("-").isdigit():
        return int(text)
    if shape.type_name in ("boolean", "integer", "long"):
        message = f"The argument {name!r} must be of the type {shape.type_name}, not {text!r}."
        raise ServiceError("ValidationError", message)
    return text


def write_answer(service: str, operation: str, answer: Mapping[str, Any]) -> bytes:
    """Return an answer as XML."""
    model = known(service, operation)
    namespace = model.service_model.metadata["xmlNamespace"]
    content = "".join(_members(model.output_shape, answer)) if model.output_shape is not None else ""
    if service == "ec2":
        content = f"<requestId>{uuid.uuid4()}</requestId>{content}"
    else:
        # The element's name, if the operation has a result.
        wrapper = model.output_shape.serialization.get("resultWrapper") if model.output_shape is not None else None
        content = f"<{wrapper}>{content}</{wrapper}>" if wrapper else content
        content += f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    return f'<{operation}Response xmlns="{namespace}">{content}</{operation}Response>'.encode()


def _members(shape: Any, value: Mapping[str, Any]) -> Iterator[str]:
    for name, member in shape.members.items():
        # A missing value is a missing element: an empty one would be an empty string to the client.
        if value.get(name) is not None:
            yield _element(member.serialization.get("name", name), member, value[name])


def _element(name: str, shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return f"<{name}>{''.join(_members(shape, value))}</{name}>"
    if shape.type_name == "list":
        if shape.serialization.get("flattened"):
            return "".join(_element(name, shape.member, item) for item in value)
        inner = shape.member.serialization.get("name", "member")
        return f"<{name}>{''.join(_element(inner, shape.member, item) for item in value)}</{name}>"
    if shape.type_name == "map":
        entries = (f"<key>{escape(key)}</key>{_element('value', shape.value, item)}" for key, item in value.items())
        return f"<{name}>{''.join(f'<entry>{entry}</entry>' for entry in entries)}</{name}>"
    return f"<{name}>{escape(_text(value))}</{name}>"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # AWS has milliseconds, not microseconds.
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return str(value)
