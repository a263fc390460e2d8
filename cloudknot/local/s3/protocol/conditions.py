"""Conditions of requests on an object's entity tag and time."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.s3.records import Condition, ObjectVersion, is_named

_NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_COPY = "x-amz-copy-source-"


def is_unchanged(headers: Mapping[str, str], version: ObjectVersion) -> bool:
    """Return whether the client of a read has the object already.

    Raises
    ------
    S3Error
        The read has a condition that the object does not meet.
    """
    if not any(name in headers for name in _NAMES):
        return False
    return _is_unchanged({name: headers[name] for name in _NAMES if name in headers}, version)


def check_source(headers: Mapping[str, str], version: ObjectVersion) -> None:
    """Raise an error if a copy has a condition that its source does not meet."""
    if _is_unchanged({name: headers[_COPY + name] for name in _NAMES if _COPY + name in headers}, version):
        raise S3Error("PreconditionFailed", version.key)


def write_condition(headers: Mapping[str, str]) -> Condition:
    """Return the condition of a request that stores an object."""
    if headers.get("if-none-match", "*") != "*" or ("if-match" in headers and "if-none-match" in headers):
        message = "A header you provided implies functionality that is not implemented: If-None-Match must be *"
        raise S3Error("NotImplemented", message=message, status=501)
    return Condition(headers.get("if-match", "").strip('"'), headers.get("if-none-match", ""))


def _is_unchanged(named: Mapping[str, str], version: ObjectVersion) -> bool:
    # In this order, a condition on the tag overrides the one on the time (RFC 9110, "Precedence of Preconditions").
    modified = int(version.modified)
    if "if-match" in named:
        is_met = is_named(version.etag, named["if-match"])
    else:
        is_met = modified <= _seconds(named.get("if-unmodified-since"), modified)
    if not is_met:
        raise S3Error("PreconditionFailed", version.key)
    if "if-none-match" in named:
        return is_named(version.etag, named["if-none-match"])
    return modified <= _seconds(named.get("if-modified-since"), modified - 1)


def _seconds(header: str | None, default: int) -> int:
    """Return a time in seconds, or ``default`` for one that is missing or cannot be read."""
    try:
        return int(parsedate_to_datetime(header).timestamp()) if header else default
    except (ValueError, OverflowError):
        return default
