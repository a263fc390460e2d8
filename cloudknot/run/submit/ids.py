"""The ids of runs. An id exists before anything is stored, and ids sort by their time."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta

ABANDONED = timedelta(days=7)
"""Age at which the objects of a run that was never submitted are deleted: no upload takes that long."""
_FORMAT = "%Y%m%dT%H%M%S%f"


def new_run_id() -> str:
    """Return a unique run id, such as ``20261124T065124884127-a905db``."""
    # The time alone may be the same in two sessions.
    return f"{datetime.now(UTC):{_FORMAT}}-{secrets.token_hex(3)}"


def is_run_id(name: str) -> bool:
    """Return whether a name of a folder is a run id. Other programs may have folders in the same bucket."""
    try:
        run_time(name)
    except ValueError:
        return False
    return re.fullmatch(r"\d{8}T\d{12}-[0-9a-f]+", name, re.ASCII) is not None


def run_time(run_id: str) -> datetime:
    """Return the time at which an id was made."""
    return datetime.strptime(run_id.partition("-")[0], _FORMAT).replace(tzinfo=UTC)
