"""Batch's rules for names, and for patterns that match names and reasons."""

from __future__ import annotations

import re

from cloudknot.local.wsgi import ClientException

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check_name(kind: str, name: str) -> None:
    """Raise `ClientException` for a name that Batch refuses. ``kind`` is the kind of the resource in the message."""
    if not _NAME.fullmatch(name):
        raise ClientException(f"{kind} name should match valid pattern")


def matches_pattern(pattern: str, text: str) -> bool:
    """Return whether a pattern matches a text."""
    # Batch allows an asterisk at the end of a pattern only, so this is the whole glob syntax.
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
