"""The log groups, log streams and log events of the embedded cloud in a database.

No call reads more than a page of events into memory.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudknot.local.batch.logs import EVENT_OVERHEAD
from cloudknot.local.directory.database import Database
from cloudknot.local.wsgi import ServiceError

NO_GROUP = "The specified log group does not exist."
NO_STREAM = "The specified log stream does not exist."
DAY = 24 * 3600 * 1000
PURGE_PAUSE = 3600.0
"""Seconds between two deletions of expired events."""
PURGED = 10_000
"""Events that one transaction deletes, so that no other change waits for long."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS log_groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, retention INTEGER,
    properties TEXT NOT NULL, tags TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS log_streams (
    id INTEGER PRIMARY KEY AUTOINCREMENT, log_group INTEGER, name TEXT NOT NULL, created INTEGER NOT NULL,
    first INTEGER, last INTEGER, ingested INTEGER, size INTEGER NOT NULL DEFAULT 0, UNIQUE (log_group, name)
);
CREATE TABLE IF NOT EXISTS log_events (
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, time INTEGER NOT NULL, ingested INTEGER NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS log_events_by_time ON log_events (stream, time);
"""
_GROUP = "SELECT id, name, created, retention, properties, tags FROM log_groups"
_STREAM = "SELECT id, log_group, name, created, first, last, ingested, size FROM log_streams"

_COUNT_AGAIN = f"""
UPDATE log_streams SET
    first = (SELECT min(time) FROM log_events WHERE stream = log_streams.id),
    size = (SELECT coalesce(sum(length(CAST(message AS BLOB)) + {EVENT_OVERHEAD}), 0)
        FROM log_events WHERE stream = log_streams.id)
WHERE log_group = ? AND first < ?
"""


@dataclass(frozen=True)
class StoredLogGroup:
    """A log group. Times are milliseconds since 1970, and ``retention`` is in days."""

    id: int
    name: str
    created: int
    retention: int | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredLogStream:
    """A log stream with the times of its first and last event, and the number of bytes in all."""

    id: int
    group: int
    name: str
    created: int
    first: int | None
    last: int | None
    ingested: int | None
    size: int


@dataclass(frozen=True)
class LogEvent:
    """An event. ``(time, id)`` is its position in its stream."""

    id: int
    stream: int
    time: int
    ingested: int
    message: str

    @property
    def position(self) -> tuple[int, int]:
        """The place in the order of events."""
        return self.time, self.id


@dataclass(frozen=True)
class EventRange:
    """A range of positions, without its ends, in the streams with these ids."""

    streams: Sequence[int]
    after: tuple[int, int] = (-1, 0)
    before: tuple[int, int] = (1 << 62, 0)
    is_backward: bool = False


class LogStore:
    """The stored logs of one cloud.

    Parameters
    ----------
    database : Database
        Has the tables of `SCHEMA`.
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._wake = threading.Event()
        self._closed = False
        self._purger = threading.Thread(target=self._keep_purging, name="log-retention", daemon=True)
        self._purger.start()

    def close(self) -> None:
        """End the deletion of expired events."""
        self._closed = True
        self._wake.set()
        self._purger.join(timeout=5)

    def now(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def add_group(self, name: str, properties: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
        """Create a log group. Return False if it exists."""
        with self._database.transaction() as connection:
            made = connection.execute(
                "INSERT OR IGNORE INTO log_groups (name, created, properties, tags) VALUES (?, ?, ?, ?)",
                (name, self.now(), json.dumps(properties), json.dumps(tags)),
            )
        return made.rowcount > 0

    def group(self, name: str) -> StoredLogGroup | None:
        """Return a log group, or None."""
        found = self._groups("name = ?", name)
        return found[0] if found else None

    def groups(self, *, prefix: str, part: str, after: str, limit: int) -> list[StoredLogGroup]:
        """Return log groups in the order of their names, by the beginning of the name and a part of it."""
        condition = "substr(name, 1, ?) = ? AND instr(lower(name), lower(?)) > 0 AND name > ? ORDER BY name LIMIT ?"
        return self._groups(condition, len(prefix), prefix, part, after, limit)

    def _groups(self, condition: str, *values: object) -> list[StoredLogGroup]:
        return [
            StoredLogGroup(number, name, created, retention, json.loads(properties), json.loads(tags))
            for number, name, created, retention, properties, tags in self._database.rows(
                f"{_GROUP} WHERE {condition}", *values
            )
        ]

    def change_group(self, group: StoredLogGroup) -> None:
        """Store the retention and the tags of a log group."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE log_groups SET retention = ?, tags = ? WHERE id = ?",
                (group.retention, json.dumps(group.tags), group.id),
            )
        self._wake.set()

    def size_of(self, group: StoredLogGroup) -> int:
        """Return the number of bytes in a log group."""
        ((size,),) = self._database.rows(
            "SELECT coalesce(sum(size), 0) FROM log_streams WHERE log_group = ?", group.id
        )
        return int(size)

    def delete_group(self, group: StoredLogGroup) -> None:
        """Delete a log group. Its events are deleted afterwards."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM log_groups WHERE id = ?", (group.id,))
            connection.execute("UPDATE log_streams SET log_group = NULL WHERE log_group = ?", (group.id,))
        self._wake.set()

    def add_stream(self, group: StoredLogGroup, name: str) -> bool:
        """Create a log stream. Return False if it exists."""
        with self._database.transaction() as connection:
            made = connection.execute(
                "INSERT OR IGNORE INTO log_streams (log_group, name, created) VALUES (?, ?, ?)",
                (group.id, name, self.now()),
            )
        return made.rowcount > 0

    def stream(self, group: StoredLogGroup, name: str) -> StoredLogStream | None:
        """Return a log stream, or None."""
        rows = self._database.rows(f"{_STREAM} WHERE log_group = ? AND name = ?", group.id, name)
        return StoredLogStream(*rows[0]) if rows else None

    def streams(self, group: StoredLogGroup, prefix: str = "") -> list[StoredLogStream]:
        """Return the log streams with a prefix in the order of their names."""
        condition = "log_group = ? AND substr(name, 1, ?) = ? ORDER BY name"
        rows = self._database.rows(f"{_STREAM} WHERE {condition}", group.id, len(prefix), prefix)
        return [StoredLogStream(*row) for row in rows]

    def delete_stream(self, stream: StoredLogStream) -> None:
        """Delete a log stream. Its events are deleted afterwards."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE log_streams SET log_group = NULL WHERE id = ?", (stream.id,))
        self._wake.set()

    def append(self, group_name: str, stream_name: str, messages: Sequence[str], *, adds_group: bool = False) -> None:
        """Store messages of this moment, in a new stream if there is none.

        Raises
        ------
        ServiceError
            The group does not exist, and is not to be added.
        """
        if adds_group:
            self.add_group(group_name, {}, {})
        group = self.group(group_name)
        if group is None:
            raise ServiceError("ResourceNotFoundException", f"{NO_GROUP} Its name is {group_name}.")
        stream = self.stream(group, stream_name)
        if stream is None:
            self.add_stream(group, stream_name)
            stream = self.stream(group, stream_name)
            assert stream is not None
        # A clock that was set back must not put new lines before older ones.
        now = max(self.now(), stream.last or 0)
        self.put(stream, [(now, message) for message in messages])

    def put(self, stream: StoredLogStream, events: Sequence[tuple[int, str]]) -> None:
        """Store events with their times."""
        if not events:
            return
        now, times = self.now(), [at for at, _ in events]
        size = sum(event_size(message) for _, message in events)
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO log_events (stream, time, ingested, message) VALUES (?, ?, ?, ?)",
                ((stream.id, at, now, message) for at, message in events),
            )
            connection.execute(
                "UPDATE log_streams SET first = min(coalesce(first, ?1), ?1), last = max(coalesce(last, ?2), ?2),"
                " ingested = ?3, size = size + ?4 WHERE id = ?5",
                (min(times), max(times), now, size, stream.id),
            )

    def events(self, chosen: EventRange) -> Iterator[LogEvent]:
        """Yield the events of a range in order, the last one first if it is backward. They are read one by one."""
        order = "time DESC, id DESC" if chosen.is_backward else "time, id"
        # The first form reads the events in the order of the index, without sorting them.
        is_one = len(chosen.streams) == 1
        place = "stream = ?" if is_one else "stream IN (SELECT value FROM json_each(?))"
        streams = chosen.streams[0] if is_one else json.dumps(list(chosen.streams))
        statement = (
            f"SELECT id, stream, time, ingested, message FROM log_events WHERE {place}"
            f" AND (time, id) > (?, ?) AND (time, id) < (?, ?) ORDER BY {order}"
        )
        with self._database.reading() as connection:
            cursor = connection.execute(statement, (streams, *chosen.after, *chosen.before))
            try:
                for row in cursor:
                    yield LogEvent(*row)
            finally:
                # An open cursor would hold an old state of the database.
                cursor.close()

    def purge(self) -> None:
        """Delete expired events, and those of deleted streams."""
        for group in self._groups("retention IS NOT NULL"):
            limit = self.now() - (group.retention or 0) * DAY
            condition = "stream IN (SELECT id FROM log_streams WHERE log_group = ? AND first < ?) AND time < ?"
            self._purge_events(condition, group.id, limit, limit)
            with self._database.transaction() as connection:
                connection.execute(_COUNT_AGAIN, (group.id, limit))
        self._purge_events("stream IN (SELECT id FROM log_streams WHERE log_group IS NULL)")
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM log_streams WHERE log_group IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM log_events WHERE stream = log_streams.id)"
            )

    def _purge_events(self, condition: str, *values: object) -> None:
        statement = f"DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE {condition} LIMIT {PURGED})"
        while not self._closed:
            with self._database.transaction() as connection:
                if not connection.execute(statement, values).rowcount:
                    return

    def _keep_purging(self) -> None:
        import logging

        while not self._closed:
            self._wake.clear()
            try:
                self.purge()
            except (OSError, sqlite3.Error):
                logging.getLogger(__name__).exception("Cannot delete expired events of logs")
            self._wake.wait(PURGE_PAUSE)


def event_size(message: str) -> int:
    """Return the bytes that an event counts."""
    return len(message.encode()) + EVENT_OVERHEAD
