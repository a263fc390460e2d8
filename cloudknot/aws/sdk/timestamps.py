"""Parse the times in AWS's answers with the standard library."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.session import Session


def parse_quickly(session: Session) -> None:
    """Make a session parse times with the standard library, wherever possible."""
    # A listing has one time for each object, and botocore's own parser takes most of the CPU time of reading it.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)


def _timestamp(value: str) -> datetime:
    from botocore.utils import parse_timestamp

    # Some services send seconds as a number.
    with suppress(TypeError, ValueError):
        moment = datetime.fromisoformat(value)
        # botocore always returns a time zone, and comparisons rely on it.
        if moment.tzinfo:
            return moment
    return parse_timestamp(value)
