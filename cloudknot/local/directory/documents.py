"""Documents: JSON objects of one kind in the cloud's database, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.files import RECORDS

Document = dict[str, Any]
CALLS = "call"
"""The kind of the answers to calls by CloudFormation, each of which is carried out once."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (kind, name)
);
"""


def cloud_database(directory: Path) -> Database:
    """Open the database in which a cloud keeps its keys, stacks and resources."""
    return Database(directory / RECORDS, SCHEMA)


class Documents(MutableMapping[str, Document]):
    """The documents of one kind. One is on the disk when its assignment returns, or at the end of the transaction.

    Reading yields a new object each time: a change of it is stored by another assignment.

    Parameters
    ----------
    database : Database
        The database from `cloud_database`.
    kind : str
        The kind, for example ``"iam:role"``.
    """

    # Without a copy in memory: a look-up takes microseconds, and there is nothing to keep consistent.
    def __init__(self, database: Database, kind: str) -> None:
        self._database, self._kind = database, kind

    def __getitem__(self, name: str) -> Document:
        rows = self._database.rows("SELECT document FROM documents WHERE kind = ? AND name = ?", self._kind, name)
        if not rows:
            raise KeyError(name)
        document: Document = json.loads(rows[0][0])
        return document

    def __setitem__(self, name: str, document: Document) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO documents (kind, name, document) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document",
                (self._kind, name, json.dumps(document)),
            )

    def __delitem__(self, name: str) -> None:
        with self._database.transaction() as connection:
            done = connection.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (self._kind, name))
            if not done.rowcount:
                raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, the oldest document first."""
        rows = self._database.rows("SELECT name FROM documents WHERE kind = ? ORDER BY number", self._kind)
        return iter([name for (name,) in rows])

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM documents WHERE kind = ?", self._kind)[0][0])

    def delete_all(self, prefix: str) -> None:
        """Delete the documents whose names begin with a prefix of plain ASCII characters."""
        with self._database.transaction() as connection:
            statement = "DELETE FROM documents WHERE kind = ? AND name >= ? AND name < ?"
            connection.execute(statement, (self._kind, prefix, f"{prefix}\x7f"))

    def all(self) -> list[Document]:
        """Return all documents, the oldest first."""
        rows = self._database.rows("SELECT document FROM documents WHERE kind = ? ORDER BY number", self._kind)
        return [json.loads(text) for (text,) in rows]
