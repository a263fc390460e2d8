"""The stored job definitions, queues and compute environments of Batch, and the look-ups that a submission needs."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any, cast

from cloudknot.local.batch.records import Queue, TimeLimit
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.wsgi import ClientException

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import JobDefinitionTypeDef

Resource = dict[str, Any]
"""A resource as Batch describes it."""

DEFINITION, QUEUE, ENVIRONMENT = "job-definition", "job-queue", "compute-environment"
"""The kinds of resources, in the words of their ARNs."""
INACTIVE_DAYS = 180
"""Days for which Batch shows a deregistered job definition."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_resources (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL, deregistered REAL, content TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_resources_by_name ON batch_resources (kind, name);
CREATE TABLE IF NOT EXISTS batch_revisions (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
"""
_STORE = """
INSERT INTO batch_resources (kind, name, arn, status, deregistered, content) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (arn) DO UPDATE SET
    status = excluded.status, deregistered = excluded.deregistered, content = excluded.content
"""


def arn_of(kind: str, name: str) -> str:
    """Return the ARN of a resource. The name of a job definition ends with its revision."""
    return name if name.startswith("arn:") else f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{name}"


class BatchCatalog:
    """The resources of Batch.

    Parameters
    ----------
    database : Database
        Has the tables of `SCHEMA`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def definition(self, reference: str) -> JobDefinitionTypeDef:
        """Return the active job definition for a name (its latest revision), a ``name:revision`` or an ARN."""
        name, _, revision = reference.rpartition("/")[2].partition(":")
        found = self.find_all(DEFINITION, name=name, status="ACTIVE")
        chosen = [content for _, content in found if revision in ("", str(content["revision"]))]
        if not chosen:
            raise ClientException(f"JobDefinition, {reference}, does not exist")
        return cast("JobDefinitionTypeDef", max(chosen, key=lambda content: int(content["revision"])))

    def newest_definition(self) -> Resource | None:
        """Return the active job definition that was registered last, or None."""
        statement = "SELECT content FROM batch_resources WHERE kind = ? AND status = ? ORDER BY number DESC LIMIT 1"
        rows = self._database.rows(statement, DEFINITION, "ACTIVE")
        return json.loads(rows[0][0]) if rows else None

    def queue(self, reference: str) -> Queue:
        """Return the enabled queue for a name or ARN, with the largest of its compute environments."""
        content = self.find(QUEUE, reference)
        if content is None:
            raise ClientException(f"Job queue {reference} does not exist")
        if content["state"] != "ENABLED":
            raise ClientException(f"Job queue {reference} is not enabled")
        order = sorted(content["computeEnvironmentOrder"], key=lambda entry: int(entry["order"]))
        environments = [self.find(ENVIRONMENT, entry["computeEnvironment"]) for entry in order]
        sizes = {found["computeEnvironmentName"]: _max_vcpus(found) for found in environments if found}
        if not sizes:
            raise ClientException("The job queue has no compute environment")
        name = max(sizes, key=lambda name: sizes[name])
        limits = tuple(
            TimeLimit(action["reason"], float(action["maxTimeSeconds"]))
            for action in content.get("jobStateTimeLimitActions") or ()
        )
        return Queue(
            content["jobQueueName"], content["jobQueueArn"], int(content["priority"]), name, sizes[name], limits
        )

    def find(self, kind: str, reference: str) -> Resource | None:
        """Return a resource by its name or ARN, or None."""
        statement = "SELECT content FROM batch_resources WHERE arn = ?"
        rows = self._database.rows(statement, arn_of(kind, reference))
        return json.loads(rows[0][0]) if rows else None

    def find_all(
        self, kind: str, *, name: str = "", status: str = "", after: int = 0, limit: int = -1
    ) -> list[tuple[int, Resource]]:
        """Return resources with their numbers, the oldest first. A limit of -1 is none."""
        wanted = {"kind": kind, **({"name": name} if name else {}), **({"status": status} if status else {})}
        conditions = " AND ".join(f"{column} = ?" for column in wanted)
        rows = self._database.rows(
            f"SELECT number, content FROM batch_resources WHERE {conditions} AND number > ? ORDER BY number LIMIT ?",
            *wanted.values(),
            after,
            limit,
        )
        return [(number, json.loads(content)) for number, content in rows]

    def next_revision(self, name: str) -> int:
        """Return the next revision of a job definition. None comes back, also after its deregistration."""
        with self._database.transaction() as connection:
            statement = (
                "INSERT INTO batch_revisions VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last"
            )
            (revision,) = connection.execute(statement, (name,)).fetchone()
        return int(revision)

    def store(self, kind: str, name: str, arn: str, content: Resource) -> None:
        """Store a new resource, or a changed one. It also survives a power cut."""
        status = str(content["status"])
        deregistered = time.time() if status == "INACTIVE" else None
        with self._database.transaction(is_synced=True) as connection:
            connection.execute(_STORE, (kind, name, arn, status, deregistered, json.dumps(content)))
            oldest = time.time() - INACTIVE_DAYS * 24 * 3600
            connection.execute("DELETE FROM batch_resources WHERE deregistered < ?", (oldest,))

    def delete(self, arn: str) -> None:
        """Delete a resource."""
        with self._database.transaction(is_synced=True) as connection:
            connection.execute("DELETE FROM batch_resources WHERE arn = ?", (arn,))


def _max_vcpus(environment: Resource) -> float:
    # An unmanaged compute environment has no computeResources, and no limit that Batch knows.
    resources = environment.get("computeResources") or {}
    return float(resources.get("maxvCpus", math.inf))
