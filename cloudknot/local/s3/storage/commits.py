"""SharedCommits: one transaction for the changes of several threads. The disk is synced once for all of them."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from cloudknot.local.directory.database import Database

T = TypeVar("T")


class SharedCommits:
    """Changes of a database. Those that wait at the same time share one transaction.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        self._waiting: deque[_Change] = deque()

    def change(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call a function with the connection, and return its result when its changes are committed.

        An exception of the function undoes its own changes only.
        """
        change = _Change(function)
        self._waiting.append(change)
        with self._turn:
            # The thread whose turn it was before may have committed this change as well.
            if not change.is_done:
                self._commit()
        if change.error is not None:
            raise change.error
        result: T = change.result
        return result

    def _commit(self) -> None:
        changes: list[_Change] = []
        try:
            with self._database.transaction() as connection:
                # Not before: more changes come while another transaction holds the database.
                changes = self._take()
                for change in changes:
                    change.apply(connection)
        except BaseException as error:
            # None of them is committed. Without a transaction, none of them was taken.
            changes = changes or self._take()
            for change in changes:
                change.error = error
        for change in changes:
            change.is_done = True

    def _take(self) -> list[_Change]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class _Change:
    """A change that waits for its commit, then its result or its error."""

    def __init__(self, function: Callable[[sqlite3.Connection], Any]) -> None:
        self.function = function
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Apply this change in the open transaction. Undo it alone after an error."""
        connection.execute("SAVEPOINT change")
        try:
            self.result = self.function(connection)
        except sqlite3.OperationalError:
            # SQLite may have ended the whole transaction, as it does on a full disk.
            raise
        except Exception as error:
            self.error = error
            connection.execute("ROLLBACK TO change")
        connection.execute("RELEASE change")
