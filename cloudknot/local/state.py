"""The files by which sessions and the cloud's process find each other, all under the cloud's directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cloudknot.errors import CKTimeoutError

REGION = "us-east-1"
VERSION = 1
"""Of the file's format and of the routes under ``/_cloudknot/``."""

LOCK_TIMEOUT = 40 * 60.0
"""Seconds; longer than an installation of requirements may take."""


@dataclass(frozen=True)
class CloudState:
    """What ``cloud.json`` holds: where the cloud is and how to be let in."""

    endpoint: str
    pid: int
    access_key: str
    secret_key: str
    region: str = REGION
    version: int = VERSION
    runner: str = "process"
    registry: str | None = None

    def __repr__(self) -> str:
        return f"CloudState(endpoint={self.endpoint!r}, pid={self.pid})"


def state_file(directory: Path) -> Path:
    return directory / "cloud.json"


def log_file(directory: Path) -> Path:
    return directory / "server.log"


def make_private(directory: Path) -> None:
    """Make a directory that only its owner can enter."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)


def write_state(directory: Path, state: CloudState) -> None:
    """Write ``cloud.json`` for its owner only, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".cloud-")
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(state), stream)
    os.replace(name, state_file(directory))


def read_state(directory: Path) -> CloudState | None:
    """What ``cloud.json`` says; None when there is none, or none of this version."""
    try:
        fields = json.loads(state_file(directory).read_text())
        state = CloudState(**fields)
    except (FileNotFoundError, TypeError, ValueError):
        return None
    return state if state.version == VERSION else None


def server_lock(directory: Path) -> Path:
    """The file that a cloud's process holds a lock on for as long as it lives."""
    return directory / "server.lock"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block. The kernel lets go of it if the process dies."""
    with path.open("a") as stream:
        _lock(stream, time.monotonic() + LOCK_TIMEOUT)
        yield


def _lock(stream: IO[str], deadline: float) -> None:
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise CKTimeoutError(
                    f"Another process has held {stream.name} for {LOCK_TIMEOUT:.0f} s. If none of yours is starting "
                    "a local cloud or installing an image, end the process that holds it and call again."
                ) from error
        time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
