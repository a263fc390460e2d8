"""The files by which sessions and the cloud's process find each other, all under the cloud's directory."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudknot.errors import CKTimeoutError, CloudknotInputError

REGION = "us-east-1"
ACCOUNT = "123456789012"
"""moto's; every request is of this account."""
VERSION = 1
"""Of the file's format and of the routes under ``/_cloudknot/``."""

LOCK_TIMEOUT = 40 * 60.0
"""Seconds; longer than an installation of requirements may take."""

MARKER = ".cloudknot"
_OURS = frozenset({MARKER, "cloud.json", "server.lock", "server.log", "start.lock", "environments", "images"})


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
    iam: bool = False

    def __repr__(self) -> str:
        return f"CloudState(endpoint={self.endpoint!r}, pid={self.pid})"


def state_file(directory: Path) -> Path:
    return directory / "cloud.json"


def log_file(directory: Path) -> Path:
    return directory / "server.log"


def claim(directory: Path) -> None:
    """Make the cloud's directory, for its owner only; one that exists keeps its mode.

    Raises
    ------
    CloudknotInputError
        It is no directory, or holds files of somebody else's and none of a cloud's.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        names = set(os.listdir(directory)) if directory.is_dir() else {directory.name}
        if names and not names & _OURS:
            raise CloudknotInputError(
                f"{directory} is not empty, and nothing in it is a local cloud's. "
                "Name a directory that is empty or does not exist."
            ) from error
    (directory / MARKER).touch()


def write_state(directory: Path, state: CloudState) -> None:
    """Write ``cloud.json`` for its owner only, whole or not at all."""
    import tempfile

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
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[int]:
    """Hold an exclusive lock on a file for the block, and give the file's descriptor.

    When this process dies within the block, the lock lasts as long as a child process that got the descriptor.

    Raises
    ------
    CKTimeoutError
        Another process, or another thread, has held the lock for ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout

    descriptors: list[int] = []
    lock = FileLock(path, timeout=timeout, poll_interval=0.02, on_acquired=descriptors.append)
    try:
        lock.acquire()
    except Timeout as error:
        raise CKTimeoutError(
            f"Another process has held {path} for {timeout:.0f} s. If none of yours is starting "
            "a local cloud or installing an image, end the process that holds it and call again."
        ) from error
    try:
        yield descriptors[0]
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock. Several may ask at the same time."""
    # Not at the top: where there is no fcntl, on Windows, cloudknot is still to be imported and used with AWS.
    import fcntl

    try:
        with path.open() as stream:
            # filelock can only take a lock, and so would take one who asks for one who holds it.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
