"""Follow one build of CodeBuild: its status and its log, as the events that an engine's answer has.

So the screen, the log in an error, and the explanation of a failed instruction are the same for both builders.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.images.codebuild import Build
from cloudknot.errors import CKTimeoutError, ResourceDoesNotExistException
from cloudknot.image.engine.build_log import Event

if TYPE_CHECKING:
    from types_boto3_logs.type_defs import GetLogEventsRequestTypeDef

    from cloudknot.aws.cloud import Cloud

FIRST_POLL, LONGEST_POLL = 1.0, 10.0
"""Seconds between two looks at a build: the first pause, and the longest."""
LIMIT = 100 * 60.0
"""Seconds after which a build counts as lost. The project ends one after 30 minutes of waiting and 60 of building."""
LOG_DELAY = 3.0
"""Seconds that the last lines of a failed build may take to CloudWatch Logs."""
RUNNING = "IN_PROGRESS"
FAILED, SUCCEEDED = "FAILED", "SUCCEEDED"
DELETED = "DELETED"
"""Status of a build that no longer exists. It is cloudknot's own, not one of CodeBuild's."""
MISSES = 10
"""Looks that must not find a build before it counts as deleted."""
ENDS = {
    DELETED: "Somebody deleted the project of the build",
    "STOPPED": "Somebody stopped the build",
    "TIMED_OUT": "The build did not end within 60 minutes, and AWS stopped it",
}
"""Reasons of builds that ended before their end, by their status."""
_STEP = "cloudknot-step "
"""The beginning of the lines by which the buildspec announces its steps."""
_OWN = "[Container] "
"""The beginning of CodeBuild's own lines. They name commands, and would hide the output of the failed one."""


@dataclass
class BuildFollower:
    """Reads status and log of a build until it ends.

    Parameters
    ----------
    cloud : Cloud
    build_id : str
    clock, sleep : callable
        The current time in seconds, and a wait.
    """

    cloud: Cloud
    build_id: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    build: Build = field(default_factory=Build)
    """The latest description."""
    step: str = ""
    """The latest step of the buildspec: context, login, base, build, check or push."""
    lines: list[str] = field(default_factory=list)
    """The output of that step."""
    _misses: int = 0
    """The number of looks, one after another, that did not find the build."""
    _held: str = ""
    """The newest line of ``docker build``. If it is the last one, it is the engine's reason for a failure."""

    def events(self) -> Iterator[Event]:
        """Yield the lines of the build's steps, and an error at the end of a failed build."""
        deadline, pause = self.clock() + LIMIT, FIRST_POLL
        token = ""
        while True:
            self._look()
            # The log is read after the status, so that it is complete if the status is final.
            ended = self.build["buildStatus"] != RUNNING
            if ended and self.build["buildStatus"] != SUCCEEDED:
                self.sleep(LOG_DELAY)
            messages, token = self._messages(token)
            for line in "\n".join(messages).splitlines():
                yield from self._event(line)
            if ended:
                yield from self._end()
                return
            if self.clock() > deadline:
                raise CKTimeoutError(
                    f"The build {self.build_id} on AWS CodeBuild did not end within {LIMIT / 60:.0f} minutes. It was "
                    "stopped. Check the AWS Health Dashboard for CodeBuild, and try again."
                )
            self.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)

    def _look(self) -> None:
        """Read the description of the build."""
        found = clients.codebuild(self.cloud).batch_get_builds(ids=[self.build_id]).get("builds", [])
        if found:
            self.build, self._misses = found[0], 0
            return
        # A new build may take a moment to appear. One that stays away was deleted with its project.
        self._misses += 1
        self.build = {**self.build, "buildStatus": RUNNING if self._misses < MISSES else DELETED}

    def _messages(self, token: str) -> tuple[list[str], str]:
        """Return the new messages in the log, and the token for the messages after these."""
        logs = self.build.get("logs", {})
        if not logs.get("streamName"):
            return [], token
        messages: list[str] = []
        while True:
            request: GetLogEventsRequestTypeDef = {
                "logGroupName": logs["groupName"],
                "logStreamName": logs["streamName"],
                "startFromHead": True,
            }
            if token:
                request["nextToken"] = token
            try:
                page = clients.logs(self.cloud).get_log_events(**request)
            except ResourceDoesNotExistException:
                # CodeBuild names the stream before it exists.
                return messages, token
            messages += [event["message"] for event in page["events"]]
            # At the end of a stream, CloudWatch Logs returns the same token again (API reference, GetLogEvents).
            if page["nextForwardToken"] == token:
                return messages, token
            token = page["nextForwardToken"]

    def _event(self, line: str) -> Iterator[Event]:
        if line.startswith(_STEP):
            self.step, self._held = line.removeprefix(_STEP).strip(), ""
            self.lines.clear()
        elif line.strip() and not line.startswith(_OWN):
            self.lines.append(line)
            if self._held:
                yield {"stream": f"{self._held}\n"}
            self._held = line

    def _end(self) -> Iterator[Event]:
        if self.build["buildStatus"] == FAILED and self.step == "build" and self._held:
            yield {"error": self._held}
            return
        if self._held:
            yield {"stream": f"{self._held}\n"}
        if self.build["buildStatus"] != SUCCEEDED:
            yield {"error": self.reason()}

    def reason(self) -> str:
        """Return CodeBuild's reason for the end of a failed build, as a sentence."""
        if reason := ENDS.get(self.build["buildStatus"]):
            return reason
        for phase in self.build.get("phases", ()):
            for item in phase.get("contexts", ()):
                if message := item.get("message", "").strip():
                    return f"CodeBuild reports for the phase {phase.get('phaseType', '')}: {message}"
        return f"The status of the build is {self.build['buildStatus']}"
