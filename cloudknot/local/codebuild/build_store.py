"""The projects and builds of CodeBuild in the cloud's database."""

from __future__ import annotations

import json
from typing import Any

from cloudknot.local.directory.database import Database

Content = dict[str, Any]
"""A project or a build in CodeBuild's form."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS build_projects (name TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS builds (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL, token TEXT UNIQUE,
    is_complete INTEGER NOT NULL, content TEXT NOT NULL
);
"""
SERVER_ENDED = "The embedded cloud ended during the build. Start the build again."


class BuildStore:
    """The stored projects and builds of one cloud.

    Parameters
    ----------
    database : Database
        Has the tables of `SCHEMA`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def projects(self) -> list[str]:
        """Return the names of all projects in order."""
        return [name for (name,) in self._database.rows("SELECT name FROM build_projects ORDER BY name")]

    def project(self, name: str) -> Content | None:
        """Return a project, or None."""
        rows = self._database.rows("SELECT content FROM build_projects WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def put_project(self, project: Content) -> None:
        """Store a new or changed project. It also survives a power cut."""
        with self._database.transaction(is_synced=True) as connection:
            values = project["name"], json.dumps(project)
            connection.execute("INSERT OR REPLACE INTO build_projects VALUES (?, ?)", values)

    def delete_project(self, name: str) -> None:
        """Delete a project. Its builds stay."""
        with self._database.transaction(is_synced=True) as connection:
            connection.execute("DELETE FROM build_projects WHERE name = ?", (name,))

    def add_build(self, build: Content, token: str | None) -> None:
        """Store a new build with the token of its request, if that had one."""
        values = build["id"], build["projectName"], token, json.dumps(build)
        with self._database.transaction(is_synced=True) as connection:
            statement = "INSERT INTO builds (id, project, token, is_complete, content) VALUES (?, ?, ?, 0, ?)"
            connection.execute(statement, values)

    def end_build(self, build: Content) -> None:
        """Store the final form of a build."""
        with self._database.transaction() as connection:
            statement = "UPDATE builds SET is_complete = 1, content = ? WHERE id = ?"
            connection.execute(statement, (json.dumps(build), build["id"]))

    def build(self, build_id: str) -> Content | None:
        """Return a build as it was stored last, or None."""
        rows = self._database.rows("SELECT content FROM builds WHERE id = ?", build_id)
        return json.loads(rows[0][0]) if rows else None

    def build_of_token(self, token: str) -> str | None:
        """Return the id of the build that a request with this token started, or None."""
        rows = self._database.rows("SELECT id FROM builds WHERE token = ?", token)
        return rows[0][0] if rows else None

    def builds_of(self, project: str) -> list[str]:
        """Return the ids of a project's builds, the newest first."""
        rows = self._database.rows("SELECT id FROM builds WHERE project = ? ORDER BY number DESC", project)
        return [build_id for (build_id,) in rows]

    def end_lost_builds(self, now: float) -> None:
        """End the builds that were in progress when an earlier server process ended."""
        for (text,) in self._database.rows("SELECT content FROM builds WHERE NOT is_complete"):
            build = json.loads(text)
            context = {"statusCode": "INTERNAL_ERROR", "message": SERVER_ENDED}
            lost = {"phaseType": build["currentPhase"], "phaseStatus": "FAULT", "contexts": [context]}
            end: Content = {"buildStatus": "FAULT", "buildComplete": True, "currentPhase": "COMPLETED", "endTime": now}
            self.end_build({**build, **end, "phases": [lost, {"phaseType": "COMPLETED"}]})
