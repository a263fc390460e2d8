"""Times in answers of S3, read by the standard library: a listing has one for each object."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.session import Session


def parse_quickly(session: Session) -> None:
    """Have a session read the times in its answers by the standard library, wherever that can.

    botocore's own parser takes most of the time of reading a listing.
    """
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)


def _timestamp(value: str) -> datetime:
    from botocore.utils import parse_timestamp

    # Some services send a number.
    with suppress(TypeError, ValueError):
        moment = datetime.fromisoformat(value)
        # Botocore's own are never without a zone.
        if moment.tzinfo:
            return moment
    return parse_timestamp(value)
