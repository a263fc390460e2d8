"""CodeBuild, the build service of AWS: the calls that cloudknot makes, with the types of their answers. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypedDict, Unpack

CONTEXTS = "cloudknot.builds"
"""The folder in the bucket with the files of running builds."""


class PhaseContext(TypedDict, total=False):
    """The reason for the end of a phase."""

    statusCode: str
    message: str


class BuildPhase(TypedDict, total=False):
    """A phase of a build, for example ``PRE_BUILD``."""

    phaseType: str
    phaseStatus: str
    contexts: list[PhaseContext]


class BuildLogs(TypedDict, total=False):
    """The place of a build's log in CloudWatch Logs, and the address of the page that shows it."""

    groupName: str
    streamName: str
    deepLink: str


class Build(TypedDict, total=False):
    """The part of a build's description that cloudknot reads. Any of the fields may be missing."""

    id: str
    buildStatus: str
    currentPhase: str
    phases: list[BuildPhase]
    logs: BuildLogs
    startTime: datetime
    endTime: datetime


class StartBuildAnswer(TypedDict):
    """The answer to StartBuild."""

    build: Build


class BatchGetBuildsAnswer(TypedDict, total=False):
    """The answer to BatchGetBuilds."""

    builds: list[Build]


class BuildVariable(TypedDict):
    """An environment variable of a build. Everybody who may describe the build can read it."""

    name: str
    value: str


class StartBuildRequest(TypedDict):
    """The request of StartBuild, as far as cloudknot uses it."""

    projectName: str
    environmentTypeOverride: str
    imageOverride: str
    environmentVariablesOverride: Sequence[BuildVariable]
    idempotencyToken: str


class CodeBuildClient(Protocol):
    """The client of boto3, as far as cloudknot uses it."""

    def start_build(self, **request: Unpack[StartBuildRequest]) -> StartBuildAnswer: ...
    def batch_get_builds(self, *, ids: Sequence[str]) -> BatchGetBuildsAnswer: ...
    def stop_build(self, *, id: str) -> object: ...
