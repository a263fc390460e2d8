"""The id of a run, made before anything of it is stored; ids sort by the time they were made."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

ABANDONED = timedelta(days=7)
"""Age at which what was stored for a run that was never submitted is deleted: no upload takes that long."""
_FORMAT = "%Y%m%dT%H%M%S%f"


def new_run_id() -> str:
    """One that no other run has."""
    return f"{datetime.now(UTC):{_FORMAT}}-{secrets.token_hex(3)}"


def run_time(run_id: str) -> datetime:
    """When it was made."""
    return datetime.strptime(run_id.partition("-")[0], _FORMAT).replace(tzinfo=UTC)
