"""One build of the embedded CodeBuild: the commands of its buildspec, in a shell of this machine.

On AWS, they run in a container with a Docker engine of its own. Here, ``docker`` uses the engine of this machine, and
``aws`` is a small stand-in that knows the commands of cloudknot's buildspec.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cloudknot.aws.images import docker_context
from cloudknot.local.batch.logs import Append, batches
from cloudknot.local.directory.state import ACCOUNT, REGION

PHASES = ("install", "pre_build", "build", "post_build")
INTERVAL = 0.3
"""Seconds between two writes to the log."""
END_TIMEOUT = 10.0
"""Seconds that a stopped build may take to end."""
_KEPT = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "LANG", "PATH", "PYTHONPATH", "TMPDIR", "TZ")
"""Variables of the server that builds need. Others may hold secrets of the user."""
# CodeBuild runs all commands of a version 0.2 buildspec in the same shell. A phase ends at its first failed command.
_RUN = """
run() {
    printf '[Container] %s Running command %s\\n' "$(date '+%Y/%m/%d %H:%M:%S')" "$2"
    eval "$2"
    status=$?
    if [ "$status" -ne 0 ]; then
        printf '%s\\n%s\\n%s' "$1" "$status" "$2" > "$BUILD_FAILURE"
        printf '[Container] Command did not exit successfully %s exit status %s\\n' "$2" "$status"
        exit "$status"
    fi
}
"""


@dataclass(frozen=True)
class BuildOrder:
    """A build before its start: the project's settings, with those of the request in their place."""

    build_id: str
    project: str
    buildspec: str
    log_group: str
    minutes: int
    """The minutes after which it is stopped."""
    variables: Mapping[str, str]


class RunningBuild:
    """A build, from its start until the end of the server process.

    Parameters
    ----------
    order : BuildOrder
    directory : Path
        The folder for its files. It is deleted at the end.
    append : callable
        Stores messages in a log stream, and creates that and its group if they are missing.
    on_end : callable
        Called with the final description.
    """

    def __init__(
        self, order: BuildOrder, directory: Path, append: Append, on_end: Callable[[dict[str, Any]], None]
    ) -> None:
        self._order, self._directory, self._append, self._on_end = order, directory, append, on_end
        self._stream = order.build_id.partition(":")[2]
        self._status, self._phase, self._message = "IN_PROGRESS", "SUBMITTED", ""
        self._started, self._ended = time.time(), 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"build {self._stream}", daemon=True)

    def start(self) -> None:
        """Start the build."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the build, unless it has ended."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end of a stopped build, at most some seconds."""
        self._thread.join(END_TIMEOUT)

    def description(self) -> dict[str, Any]:
        """Return the build in CodeBuild's form."""
        group = self._order.log_group
        done = self._status != "IN_PROGRESS"
        contexts = [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": self._message}] if self._message else []
        phase = {
            "phaseType": self._phase,
            "contexts": contexts,
            **({"phaseStatus": "FAILED"} if self._message else {}),
        }
        return {
            "id": self._order.build_id,
            "arn": f"arn:aws:codebuild:{REGION}:{ACCOUNT}:build/{self._order.build_id}",
            "projectName": self._order.project,
            "buildStatus": self._status,
            "buildComplete": done,
            "currentPhase": "COMPLETED" if done else self._phase,
            "phases": [phase, *([{"phaseType": "COMPLETED"}] if done else [])],
            "logs": {"groupName": group, "streamName": self._stream},
            "startTime": self._started,
            **({"endTime": self._ended} if done else {}),
        }

    def _run(self) -> None:
        try:
            # An empty log is shown, a missing one is an error.
            self._put(b"")
            status = self._execute()
        except Exception as error:
            # CodeBuild calls its own faults so. Without this, the client would wait until its time limit.
            self._message, status = f"The embedded cloud could not run the build: {error}", "FAULT"
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
        # The status last: a client that sees the end reads the whole log.
        self._ended = time.time()
        self._status = status
        self._on_end(self.description())

    def _execute(self) -> str:
        """Run the commands, and return the final status."""
        # On AWS, every machine has it.
        if "docker " in self._order.buildspec and shutil.which("docker") is None:
            raise FileNotFoundError("this machine has no command `docker`. On Debian, install docker.io or docker-cli")
        self._directory.mkdir(mode=0o700, parents=True)
        script, failure = self._directory / "build.sh", self._directory / "failure"
        script.write_text(_RUN + _script(self._order.buildspec), encoding="utf-8")
        self._phase = "BUILD"
        process = subprocess.Popen(
            ["sh", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            env=self._environment(failure),
            # A group of its own, so that a stop ends `docker` and `aws` as well.
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            status = self._follow(process.stdout)
        finally:
            # macOS refuses a signal to a group whose processes have all ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait(END_TIMEOUT)
            process.stdout.close()
        if status or not code:
            return status or "SUCCEEDED"
        phase, exit_status, command = failure.read_text(encoding="utf-8").split("\n", 2)
        self._phase = phase.upper()
        self._message = f"Error while executing command: {command}. Reason: exit status {exit_status}"
        return "FAILED"

    def _follow(self, output: IO[bytes]) -> str:
        """Send the output to the log until it ends. Return the status of a build that has to be ended before."""
        deadline, rest = time.monotonic() + self._order.minutes * 60, b""
        while not self._stopping.is_set():
            if time.monotonic() > deadline:
                return "TIMED_OUT"
            if not select.select([output], [], [], INTERVAL)[0]:
                continue
            # A pause, so that a burst of lines becomes one request.
            self._stopping.wait(INTERVAL / 3)
            data = os.read(output.fileno(), 1 << 20)
            lines, newline, rest = (rest + data).rpartition(b"\n") if data else (rest, b"", b"")
            self._put(lines + newline)
            if not data:
                return ""
        return "STOPPED"

    def _environment(self, failure: Path) -> dict[str, str]:
        programs = self._directory / "bin"
        programs.mkdir()
        aws = programs / "aws"
        aws.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -m cloudknot.local.codebuild.aws_command "$@"\n', encoding="utf-8"
        )
        aws.chmod(0o700)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # The contexts are in the user's own settings, which a build does not see.
        if context := docker_context.current():
            kept["DOCKER_HOST"] = context.host
        return {
            **kept,
            "PATH": f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}",
            # `docker login` writes here, and not where the user's own logins are.
            "HOME": str(self._directory),
            "DOCKER_CONFIG": str(self._directory / "docker"),
            "BUILD_FAILURE": str(failure),
            **self._order.variables,
        }

    def _put(self, data: bytes) -> None:
        for batch, _ in batches(data):
            self._append(self._order.log_group, self._stream, [f"{message}\n" for message in batch])


def _script(buildspec: str) -> str:
    """Return the commands of a buildspec as lines for a shell with the function ``run``."""
    import shlex

    import yaml

    phases = yaml.safe_load(buildspec)["phases"]
    commands = [(phase, str(command)) for phase in PHASES for command in phases.get(phase, {}).get("commands", ())]
    return "".join(f"run {phase} {shlex.quote(command)}\n" for phase, command in commands)
