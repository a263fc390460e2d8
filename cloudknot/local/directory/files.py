"""The names of the files and folders in the directory of an embedded cloud."""

from __future__ import annotations

from pathlib import Path

MARKER = ".cloudknot"
"""The file that marks a directory as that of an embedded cloud. It holds the number of its format."""
FORMAT = 1
"""The format of the databases and objects in the directory. Earlier versions kept none, and an empty marker."""
DELETED = "deleted"
"""In place of the format: a deletion of the cloud has begun. The next start deletes the rest."""
OBJECTS = "objects"
"""The folder of the objects in S3."""
RECORDS, JOBS, LOGS = "cloud.sqlite", "jobs.sqlite", "logs.sqlite"
DATABASES = (RECORDS, JOBS, LOGS)
"""The databases of the cloud: its users, stacks and keys, its jobs, and its logs. SQLite has files beside each."""
SCRATCH = ".cloudknot-scratch"
OPTIONS = "options.json"
"""The options of the last start."""
CLOUD_FILES = frozenset(
    {
        *(MARKER, OPTIONS, "cloud.json", "server.log", "server.lock", "start.lock"),
        *(*DATABASES, SCRATCH, OBJECTS, "images", "environments"),
    }
)
"""All of them."""


def state_file(directory: Path) -> Path:
    """Return the path of ``cloud.json``."""
    return directory / "cloud.json"


def log_file(directory: Path) -> Path:
    """Return the path of the server's log."""
    return directory / "server.log"


def server_lock(directory: Path) -> Path:
    """Return the path of the file that the server process keeps locked for as long as it lives."""
    return directory / "server.lock"
