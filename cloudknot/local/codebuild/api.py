"""CodeBuild's API: projects and builds.

Builds run on this machine, see `cloudknot.local.codebuild.running_build`. CodeBuild's own texts and names are used, so
that a client needs no other code for this cloud.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cloudknot.local.batch.logs import Append
from cloudknot.local.codebuild.running_build import BuildOrder, RunningBuild
from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, carry_out
from cloudknot.local.wsgi import Answer, ServiceError

SERVER_ENDED = "The embedded cloud ended during the build. Start the build again."


class CodeBuild:
    """CodeBuild in one cloud.

    Parameters
    ----------
    database : Database
        The database from `cloud_database`.
    directory : Path
        The directory for the files of builds.
    variables : callable
        Returns the environment variables of a build with a given service role: its credentials, and the address of
        this cloud.
    append : callable
        Stores messages in a log stream, and creates that and its group if they are missing.
    """

    def __init__(
        self,
        database: Database,
        directory: Path,
        variables: Callable[[str], Mapping[str, str]],
        append: Append,
    ) -> None:
        self._projects = Documents(database, "codebuild:project")
        self._builds = Documents(database, "codebuild:build")
        """Each build as it was stored last, with the token of the request that started it."""
        self._directory, self._variables, self._append = directory, variables, append
        self._lock = threading.Lock()
        self._running: dict[str, RunningBuild] = {}
        self._operations: dict[str, Operation] = {
            "CreateProject": self._create_project,
            "UpdateProject": self._update_project,
            "DeleteProject": self._delete_project,
            "BatchGetProjects": self._get_projects,
            "StartBuild": self._start_build,
            "BatchGetBuilds": self._get_builds,
            "StopBuild": self._stop_build,
            "ListBuildsForProject": self._list_builds,
            "ListProjects": lambda _: {"projects": sorted(self._projects)},
        }
        self._end_lost_builds()

    def respond(self, operation: str, request: Mapping[str, Any]) -> Answer:
        """Answer a request. Raise `ServiceError` for a refused one."""
        return carry_out("codebuild", self._operations, operation, request, _invalid)

    def close(self) -> None:
        """Stop all builds."""
        builds = list(self._running.values())
        for build in builds:
            build.stop()
        for build in builds:
            build.join()

    def _create_project(self, request: Document) -> Answer:
        name = request["name"]
        with self._lock:
            if name in self._projects:
                raise ServiceError("ResourceAlreadyExistsException", f"Project already exists: {_arn(name)}")
            self._projects[name] = project = {**request, "arn": _arn(name)}
        return {"project": project}

    def _update_project(self, request: Document) -> Answer:
        with self._lock:
            self._projects[request["name"]] = project = {**self._project(request["name"]), **request}
        return {"project": project}

    def _delete_project(self, request: Mapping[str, str]) -> Answer:
        # CodeBuild reports success for a project that does not exist.
        self._projects.pop(request["name"].rpartition("project/")[2], None)
        return {}

    def _get_projects(self, request: Mapping[str, list[str]]) -> Answer:
        found = {name: self._projects.get(name) for name in request["names"]}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if project is None],
        }

    def _project(self, name: str) -> Document:
        try:
            return self._projects[name]
        except KeyError as error:
            message = f"Project cannot be found: {_arn(name)}"
            raise ServiceError("ResourceNotFoundException", message) from error

    def _start_build(self, request: Mapping[str, Any]) -> Answer:
        with self._lock:
            project = self._project(request["projectName"])
            # A repeated request gets the build of the first one (CodeBuild API reference, StartBuild).
            token = request.get("idempotencyToken") or None
            for build_id, stored in self._builds.items() if token else ():
                if stored["token"] == token:
                    return {"build": self._build(build_id)}
            identifier = str(uuid.uuid4())
            order = self._order(project, request, f"{project['name']}:{identifier}")
            build = RunningBuild(order, self._directory / identifier, self._append, self._on_end)
            self._builds[order.build_id] = {"build": build.description(), "token": token}
            self._running[order.build_id] = build
        build.start()
        return {"build": build.description()}

    def _on_end(self, build: Document) -> None:
        self._builds[build["id"]] = {**self._builds[build["id"]], "build": build}
        self._running.pop(build["id"], None)

    def _build(self, build_id: str) -> Document | None:
        running = self._running.get(build_id)
        found = running.description() if running else None
        # The end of a build shows only when it is stored, so that no later server denies it.
        if found is not None and not found["buildComplete"]:
            return found
        stored = self._builds.get(build_id)
        return stored["build"] if stored else None

    def _end_lost_builds(self) -> None:
        """End the builds that were in progress when an earlier server process ended."""
        for build in (stored["build"] for stored in self._builds.all() if not stored["build"]["buildComplete"]):
            context = {"statusCode": "INTERNAL_ERROR", "message": SERVER_ENDED}
            lost = {"phaseType": build["currentPhase"], "phaseStatus": "FAULT", "contexts": [context]}
            end = {"buildStatus": "FAULT", "buildComplete": True, "currentPhase": "COMPLETED", "endTime": time.time()}
            self._on_end({**build, **end, "phases": [lost, {"phaseType": "COMPLETED"}]})

    def _order(self, project: Document, request: Mapping[str, Any], build_id: str) -> BuildOrder:
        """Return all that a build needs: the project's settings with those of the request in their place."""
        environment = project["environment"]
        variables = {
            item["name"]: item["value"]
            for item in (
                *environment.get("environmentVariables", ()),
                *request.get("environmentVariablesOverride", ()),
            )
        }
        group = (project.get("logsConfig") or {}).get("cloudWatchLogs", {}).get("groupName")
        return BuildOrder(
            build_id=build_id,
            project=project["name"],
            buildspec=request.get("buildspecOverride") or project["source"].get("buildspec", ""),
            log_group=group or f"/aws/codebuild/{project['name']}",
            minutes=int(request.get("timeoutInMinutesOverride") or project.get("timeoutInMinutes") or 60),
            variables={
                **self._variables(str(project["serviceRole"])),
                "CODEBUILD_BUILD_ID": build_id,
                **variables,
            },
        )

    def _get_builds(self, request: Mapping[str, list[str]]) -> Answer:
        ids = request["ids"]
        found = {build_id: self._build(build_id) for build_id in ids}
        return {
            "builds": [build for build in found.values() if build],
            "buildsNotFound": [build_id for build_id, build in found.items() if build is None],
        }

    def _stop_build(self, request: Mapping[str, str]) -> Answer:
        running = self._running.get(request["id"])
        if running is not None:
            running.stop()
        build = self._build(request["id"])
        if build is None:
            raise ServiceError("ResourceNotFoundException", f"Build cannot be found: {request['id']}")
        return {"build": build}

    def _list_builds(self, request: Mapping[str, str]) -> Answer:
        # CodeBuild lists the newest build first, unless the request asks for another order.
        project = self._project(request["projectName"])["name"]
        builds = [stored["build"] for stored in self._builds.all()]
        return {"ids": [build["id"] for build in reversed(builds) if build["projectName"] == project]}


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidInputException", message)


def _arn(project: str) -> str:
    return f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{project}"
