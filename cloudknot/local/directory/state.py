"""CloudState: the file ``cloud.json``, by which sessions find the server process."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudknot.local.directory.files import state_file

REGION = "us-east-1"
ACCOUNT = "123456789012"
"""The account of every request."""
VERSION = 1
"""The version of the format of ``cloud.json`` and of the routes under ``/_cloudknot/``."""


@dataclass(frozen=True)
class CloudState:
    """The content of ``cloud.json``: the cloud's address, its owner's key and the options that it runs with."""

    endpoint: str
    pid: int
    access_key: str
    secret_key: str
    region: str = REGION
    version: int = VERSION
    runner: str = "process"
    registry: str | None = None
    iam: bool = False

    def __repr__(self) -> str:
        # Without the secret key: the text may end up in a log or a traceback.
        return f"CloudState(endpoint={self.endpoint!r}, pid={self.pid})"

    def is_same(self, other: CloudState) -> bool:
        """Return whether both are the same cloud, perhaps before and after a restart."""
        # A directory keeps its owner's key for as long as it exists.
        return self.access_key == other.access_key


def write_state(directory: Path, state: CloudState) -> None:
    """Write ``cloud.json``, readable by its owner only."""
    import tempfile

    # A temporary file, moved into place: a session that reads at this moment sees the whole file or none.
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".cloud-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(state), stream)
    os.replace(name, state_file(directory))


def read_state(directory: Path) -> CloudState | None:
    """Return the content of ``cloud.json``, or None if the file is missing, incomplete or of another version.

    A file of another user counts as missing.
    """
    try:
        with state_file(directory).open(encoding="utf-8") as stream:
            # Another user could name an address that collects this user's functions.
            if os.fstat(stream.fileno()).st_uid != os.geteuid():
                return None
            state = CloudState(**json.load(stream))
    except (FileNotFoundError, TypeError, ValueError):
        return None
    return state if state.version == VERSION else None
