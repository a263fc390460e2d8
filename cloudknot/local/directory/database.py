"""Database: a SQLite file with the embedded cloud's own records, for the threads of one process."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Database:
    """A SQLite database in WAL mode. What a transaction wrote survives the death of this process.

    Parameters
    ----------
    path : Path
        The file. Created if it is missing, readable by its owner only.
    schema : str
        SQL statements that create the missing tables.
    is_synced : bool, default True
        Whether a transaction also survives a power cut. Otherwise, the last ones may be missing after it.
    """

    def __init__(self, path: Path, schema: str, *, is_synced: bool = True) -> None:
        path.touch(mode=0o600)
        # One connection, guarded by a lock: SQLite has one writer at a time anyway, and reads take microseconds.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._lock = threading.RLock()
        # See "Write-Ahead Logging" in the documentation of SQLite.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
        self._connection.executescript(schema)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the database for the block. Commit at its end, or undo everything after an exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Write the log into the database file, and close it."""
        with self._lock:
            self._connection.close()
