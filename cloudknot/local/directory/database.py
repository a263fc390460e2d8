"""Database: a SQLite file with the embedded cloud's own records, for the threads of one process."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloudknot.local.directory.full_disk import NO_SPACE

PAGES_OF_LOG = 2000
"""Pages of 4 KiB in the write-ahead log after which SQLite moves them to the database file."""
SHRUNK = 1000
"""Pages that `Database.shrink` gives back at a time."""
READER_CACHE = 512
"""KiB of memory for pages of the file that each reading connection may keep."""


class Database:
    """A SQLite database in WAL mode. What a transaction wrote survives the death of this process.

    Reads see what is committed, and do not wait for writes.

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
        self._path = path
        # One connection for all changes, guarded by a lock: SQLite has one writer at a time anyway.
        self._connection = self._connect()
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._readers: list[sqlite3.Connection] = []
        self._is_closed = False
        # For `shrink`. Without effect on a database that has tables already. It costs one page in 800.
        self._connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        # See "Write-Ahead Logging" in the documentation of SQLite.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._is_synced = is_synced
        self._set_synced(is_synced)
        self._connection.execute(f"PRAGMA wal_autocheckpoint={PAGES_OF_LOG}")
        self._connection.executescript(schema)

    @contextlib.contextmanager
    def transaction(self, *, is_synced: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the database for the block. Commit at its end, or undo everything after an exception.

        With ``is_synced``, this transaction survives a power cut, also in a database whose others do not.
        A transaction within another one of the same thread is a part of that one.
        """
        if self._owner == threading.get_ident():
            yield self._connection
            return
        with self._lock, _full_disk_as_os_error(self._path), self._synced(is_synced):
            self._connection.execute("BEGIN IMMEDIATE")
            self._owner = threading.get_ident()
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # An error of SQLite may have ended the transaction already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._owner = None

    @contextlib.contextmanager
    def _synced(self, is_synced: bool) -> Iterator[None]:
        if self._is_synced or not is_synced:
            yield
            return
        # SQLite ignores this setting inside a transaction.
        self._set_synced(True)
        try:
            yield
        finally:
            self._set_synced(False)

    def _set_synced(self, is_synced: bool) -> None:
        self._connection.execute(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for queries. It is this thread's own during the block."""
        if self._owner == threading.get_ident():
            # Inside a transaction, a query sees the changes of that transaction.
            yield self._connection
            return
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect()
            connection.execute(f"PRAGMA cache_size=-{READER_CACHE}")
            connection.execute("PRAGMA query_only=ON")
        try:
            yield connection
        finally:
            self._readers.append(connection)
            if self._is_closed:
                self._close_readers()

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self.reading() as connection:
            return connection.execute(statement, values).fetchall()

    def shrink(self) -> None:
        """Give the space of deleted rows back to the disk. Other changes get their turn in between."""
        former = 0
        while (unused := self.rows("PRAGMA freelist_count")[0][0]) and unused != former:
            former = unused
            with self._lock, _full_disk_as_os_error(self._path):
                self._connection.execute(f"PRAGMA incremental_vacuum({SHRUNK})").fetchall()
        if former:
            with self._lock:
                # The file itself gets shorter only now, if no reader needs its end.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Write the log into the database file, and close it."""
        with self._lock:
            self._is_closed = True
            self._close_readers()
            self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def _close_readers(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._readers.pop().close()


@contextlib.contextmanager
def _full_disk_as_os_error(path: Path) -> Iterator[None]:
    """Raise SQLite's error for a full disk as the error that every other write raises then."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, NO_SPACE, str(path)) from error
