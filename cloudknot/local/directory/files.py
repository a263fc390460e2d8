"""The names of the files and folders in the directory of an embedded cloud."""

from __future__ import annotations

from pathlib import Path

MARKER = ".cloudknot"
"""The file that marks a directory as that of an embedded cloud. It holds the number of its format."""
FORMAT = 1
"""The format of the databases and objects in the directory. Earlier versions kept none, and an empty marker."""
DELETED = "deleted"
"""In place of the format: a deletion of the cloud has begun. The next start deletes the rest."""
STATE, SERVER_LOG, OPTIONS = "cloud.json", "server.log", "options.json"
"""The address of the running cloud, the log of the server, and the options of the last start."""
SERVER_LOCK, START_LOCK = "server.lock", "start.lock"
OBJECTS, IMAGES, ENVIRONMENTS = "objects", "images", "environments"
"""The folders of the objects in S3, of the images for processes, and of their packages."""
RECORDS, JOBS, LOGS = "cloud.sqlite", "jobs.sqlite", "logs.sqlite"
DATABASES = (RECORDS, JOBS, LOGS)
"""The databases of the cloud: its users, stacks and keys, its jobs, and its logs. SQLite has files beside each."""
SCRATCH = ".cloudknot-scratch"
"""The folder for the files of running jobs."""
CLOUD_FILES = frozenset(
    {
        *(MARKER, STATE, SERVER_LOG, OPTIONS, SERVER_LOCK, START_LOCK),
        *(*DATABASES, SCRATCH, OBJECTS, IMAGES, ENVIRONMENTS),
    }
)
"""All of them."""


def state_file(directory: Path) -> Path:
    """Return the path of ``cloud.json``."""
    return directory / STATE


def log_file(directory: Path) -> Path:
    """Return the path of the server's log."""
    return directory / SERVER_LOG


def server_lock(directory: Path) -> Path:
    """Return the path of the file that the server process keeps locked for as long as it lives."""
    return directory / SERVER_LOCK


def start_lock(directory: Path) -> Path:
    """Return the path of the file that a session keeps locked while it starts or deletes the cloud."""
    return directory / START_LOCK
