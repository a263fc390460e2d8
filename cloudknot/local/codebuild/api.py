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
from cloudknot.local.codebuild.build_store import BuildStore, Content
from cloudknot.local.codebuild.running_build import BuildOrder, RunningBuild
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, carry_out
from cloudknot.local.wsgi import Answer, ServiceError


class CodeBuild:
    """CodeBuild in one cloud.

    Parameters
    ----------
    store : BuildStore
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
        store: BuildStore,
        directory: Path,
        variables: Callable[[str], Mapping[str, str]],
        append: Append,
    ) -> None:
        self._store, self._directory, self._variables, self._append = store, directory, variables, append
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
            "ListProjects": lambda _: {"projects": self._store.projects()},
        }
        store.end_lost_builds(time.time())

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

    def _create_project(self, request: Content) -> Answer:
        name = request["name"]
        with self._lock:
            if self._store.project(name):
                raise ServiceError("ResourceAlreadyExistsException", f"Project already exists: {_arn(name)}")
            project = {**request, "arn": _arn(name)}
            self._store.put_project(project)
        return {"project": project}

    def _update_project(self, request: Content) -> Answer:
        with self._lock:
            project = {**self._project(request["name"]), **request}
            self._store.put_project(project)
        return {"project": project}

    def _delete_project(self, request: Mapping[str, str]) -> Answer:
        # CodeBuild reports success for a project that does not exist.
        self._store.delete_project(request["name"].rpartition("project/")[2])
        return {}

    def _get_projects(self, request: Mapping[str, list[str]]) -> Answer:
        found = {name: self._store.project(name) for name in request["names"]}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if project is None],
        }

    def _project(self, name: str) -> Content:
        project = self._store.project(name)
        if project is None:
            raise ServiceError("ResourceNotFoundException", f"Project cannot be found: {_arn(name)}")
        return project

    def _start_build(self, request: Mapping[str, Any]) -> Answer:
        with self._lock:
            project = self._project(request["projectName"])
            # A repeated request gets the build of the first one (CodeBuild API reference, StartBuild).
            token = request.get("idempotencyToken") or None
            if token and (existing := self._store.build_of_token(token)):
                return {"build": self._build(existing)}
            identifier = str(uuid.uuid4())
            order = self._order(project, request, f"{project['name']}:{identifier}")
            build = RunningBuild(order, self._directory / identifier, self._append, self._on_end)
            self._store.add_build(build.description(), token)
            self._running[order.build_id] = build
        build.start()
        return {"build": build.description()}

    def _on_end(self, build: Content) -> None:
        self._store.end_build(build)
        self._running.pop(build["id"], None)

    def _build(self, build_id: str) -> Content | None:
        running = self._running.get(build_id)
        found = running.description() if running else None
        # The end of a build shows only when it is stored, so that no later server denies it.
        return self._store.build(build_id) if found is None or found["buildComplete"] else found

    def _order(self, project: Content, request: Mapping[str, Any], build_id: str) -> BuildOrder:
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
        return {"ids": self._store.builds_of(self._project(request["projectName"])["name"])}


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidInputException", message)


def _arn(project: str) -> str:
    return f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{project}"
