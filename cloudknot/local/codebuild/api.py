"""CodeBuild's API: projects and builds, as a layer in front of the other services.

Builds run on this machine, see `cloudknot.local.codebuild.running_build`. CodeBuild's own texts and names are used, so
that a client needs no other code for this cloud. Projects and builds end with the server process.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cloudknot.local import wsgi
from cloudknot.local.batch.logs import Append
from cloudknot.local.codebuild.running_build import BuildOrder, RunningBuild
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.received import received
from cloudknot.local.wsgi import Answer

Project = dict[str, Any]
"""A project in CodeBuild's form."""
TOO_MANY = 100
"""Most ids in one BatchGetBuilds (CodeBuild API reference)."""


class _CodeBuildError(Exception):
    """An error in CodeBuild's format: code and message."""


class CodeBuild:
    """The WSGI application that answers requests to CodeBuild, and forwards all others.

    Parameters
    ----------
    services : WSGI application
        Receives all other requests.
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
        services: WSGIApplication,
        directory: Path,
        variables: Callable[[str], Mapping[str, str]],
        append: Append,
    ) -> None:
        self._services, self._directory, self._variables, self._append = services, directory, variables, append
        self._lock = threading.Lock()
        self._projects: dict[str, Project] = {}
        self._builds: dict[str, RunningBuild] = {}
        self._by_token: dict[str, str] = {}
        self._operations: dict[str, Callable[[Any], Answer]] = {
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

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = received(environ).calls("codebuild")
        if call is None:
            return self._services(environ, start_response)
        status = 200
        try:
            answer = self._operations.get(call.operation, _unknown)(call.arguments)
        except _CodeBuildError as error:
            code, message = error.args
            status, answer = 400, {"__type": code, "message": message}
        return wsgi.send_json(start_response, answer, status, "application/x-amz-json-1.1")

    def close(self) -> None:
        """Stop all builds."""
        for build in list(self._builds.values()):
            build.stop()
        for build in list(self._builds.values()):
            build.join()

    def _create_project(self, request: Project) -> Answer:
        name = str(request["name"])
        with self._lock:
            if name in self._projects:
                raise _CodeBuildError("ResourceAlreadyExistsException", f"Project already exists: {_arn(name)}")
            self._projects[name] = {**request, "arn": _arn(name)}
            return {"project": self._projects[name]}

    def _update_project(self, request: Project) -> Answer:
        with self._lock:
            project = self._project(str(request["name"]))
            project.update(request)
            return {"project": project}

    def _delete_project(self, request: Mapping[str, str]) -> Answer:
        # CodeBuild reports success for a project that does not exist.
        with self._lock:
            self._projects.pop(request["name"].rpartition("project/")[2], None)
        return {}

    def _get_projects(self, request: Mapping[str, list[str]]) -> Answer:
        names = request["names"]
        return {
            "projects": [self._projects[name] for name in names if name in self._projects],
            "projectsNotFound": [name for name in names if name not in self._projects],
        }

    def _project(self, name: str) -> Project:
        if name not in self._projects:
            raise _CodeBuildError("ResourceNotFoundException", f"Project cannot be found: {_arn(name)}")
        return self._projects[name]

    def _start_build(self, request: Mapping[str, Any]) -> Answer:
        with self._lock:
            project = self._project(str(request["projectName"]))
            # A repeated request gets the build of the first one (CodeBuild API reference, StartBuild).
            token = str(request.get("idempotencyToken", ""))
            if token and token in self._by_token:
                return {"build": self._builds[self._by_token[token]].description()}
            identifier = str(uuid.uuid4())
            build_id = f"{project['name']}:{identifier}"
            order = self._order(project, request, build_id)
            build = self._builds[build_id] = RunningBuild(order, self._directory / identifier, self._append)
            if token:
                self._by_token[token] = build_id
        build.start()
        return {"build": build.description()}

    def _order(self, project: Project, request: Mapping[str, Any], build_id: str) -> BuildOrder:
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
        if len(ids) > TOO_MANY:
            raise _CodeBuildError("InvalidInputException", f"Invalid list size: at most {TOO_MANY} ids are allowed")
        return {
            "builds": [self._builds[build_id].description() for build_id in ids if build_id in self._builds],
            "buildsNotFound": [build_id for build_id in ids if build_id not in self._builds],
        }

    def _stop_build(self, request: Mapping[str, str]) -> Answer:
        build = self._builds.get(request["id"])
        if build is None:
            raise _CodeBuildError("ResourceNotFoundException", f"Build cannot be found: {request['id']}")
        build.stop()
        return {"build": build.description()}

    def _list_builds(self, request: Mapping[str, str]) -> Answer:
        self._project(request["projectName"])
        start = f"{request['projectName']}:"
        # CodeBuild lists the newest build first, unless the request asks for another order.
        return {"ids": [build_id for build_id in reversed(self._builds) if build_id.startswith(start)]}


def _unknown(request: object) -> Answer:
    raise _CodeBuildError("InvalidInputException", "The embedded cloud does not have this operation of CodeBuild.")


def _arn(project: str) -> str:
    return f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{project}"
