"""Compare the data files with the database after a start: a crash leaves files without objects."""

from __future__ import annotations

import logging
from threading import Event

from cloudknot.local.directory.database import Database
from cloudknot.local.s3.storage.files import DataFiles

FOLDERS = tuple(f"{number:02x}" for number in range(256))


def check_files(database: Database, files: DataFiles, is_closed: Event) -> None:
    """Delete the files without objects, and log the objects without files. Reads one folder at a time."""
    for folder in FOLDERS:
        if is_closed.is_set():
            return
        # The files before the rows. A row that is newer than the list may only name a file of this process.
        found = {name for name in files.names(folder) if not files.is_own(name)}
        rows = database.rows("SELECT name FROM files WHERE name >= ? AND name < ?", folder, f"{folder}g")
        recorded = {name for (name,) in rows if not files.is_own(name)}
        files.free(found - recorded)
        for name in sorted(recorded - found):
            logging.error(
                "The data file %s of the object store is missing. Reading its object fails. Store the object again.",
                files.path(name),
            )
