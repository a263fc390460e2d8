"""Strict decoding of URIs, forms and JSON objects. Every text that could be read in two ways is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from cloudknot.local.wsgi import ServiceError

_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PRINTABLE = re.compile(r"[!-~]*")


def decoded(text: str) -> str:
    """Return a part of a URI without its escapes."""
    if "%" not in text:
        return text
    if _ESCAPE.search(text):
        raise ServiceError("InvalidURI", f"{text!r} has an incomplete escape.")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise ServiceError("InvalidURI", f"{text!r} is not UTF-8.") from error


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the names and values in a query or form, in order."""
    if not text:
        return []
    if not _PRINTABLE.fullmatch(text):
        raise ServiceError("InvalidURI", "A query and a form contain printable ASCII characters only.")
    parts = (part.replace("+", " ").partition("=") for part in text.split("&"))
    return [(decoded(name), decoded(value)) for name, _, value in parts]


def unique(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return names and values as a dict. Refuse a name that occurs twice, or an empty one."""
    fields: dict[str, Any] = {}
    for name, value in items:
        # Of two values, one reader takes the first, and another one the last.
        if name in fields or not name:
            raise ServiceError("InvalidParameterCombination", f"The name {name!r} is empty or occurs more than once.")
        fields[name] = value
    return fields


def form(body: bytes) -> dict[str, str]:
    """Return the form in a body."""
    return unique(pairs(body.decode("latin-1")))


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. An empty body stands for an empty object."""
    try:
        value = json.loads(body.decode() or "{}", object_pairs_hook=unique, parse_constant=_no_constant)
        # A surrogate without its partner is valid JSON, but cannot be stored as text.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", f"The body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ServiceError("SerializationException", "The body is no JSON object.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)
