"""Files of another user of this machine."""

import os
from pathlib import Path

NOBODY = 65534


def foreign_directory(directory: Path) -> Path:
    """Return a directory of another user: a new one where this process may give it away, or else one of the system."""
    if os.geteuid() != 0:
        return Path("/usr/lib")
    path = directory / "foreign"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    return path
