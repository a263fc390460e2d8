"""Builds on CodeBuild that are refused, fail or never end."""

from __future__ import annotations

from typing import cast

from cloudknot.aws import Cloud
from cloudknot.deploy.codebuild.choice import choose_builder
from cloudknot.errors import CloudknotError, PermissionDeniedError, QuotaExceededError
from tests.integration.messages.catalogue import Area, World, error_of
from tests.unit.deploy.test_code_builder import GOOD, ScriptedAws, build_system, image_with, system_uri

AREA = Area("builds")


@AREA.case
def costs_of_build(world: World) -> None:
    world.patch.setenv("CLOUDKNOT_PROGRESS", "0")
    build_system(ScriptedAws())


@AREA.case
def failed_steps(world: World) -> list[CloudknotError]:
    world.patch.setenv("CLOUDKNOT_PROGRESS", "0")
    # The steps without a Dockerfile's instruction: before the first one, context, login and push.
    return [error_of(lambda end=end: build_system(_failed(end))) for end in (0, 2, 4, 10)]  # type: ignore[misc]


def _failed(end: int) -> ScriptedAws:
    return ScriptedAws("FAILED", log=GOOD[:end], message="Error while executing command: x. Reason: exit status 254")


@AREA.case
def build_without_end(world: World) -> None:
    world.patch.setenv("CLOUDKNOT_PROGRESS", "0")
    build_system(ScriptedAws("IN_PROGRESS"))


@AREA.case
def build_after_interruption(world: World) -> None:
    aws, image = ScriptedAws(), image_with()
    builder = aws.builder()
    builder.stop()
    builder.publish_system(image, aws.repository(), system_uri(image))


@AREA.case
def limit_of_builds(world: World) -> None:
    aws = ScriptedAws()
    aws.refusals["start_build"] = QuotaExceededError(
        "AWS answered codebuild:start_build with AccountLimitExceededException: Cannot have more than 0 builds in "
        "queue for the account",
        code="AccountLimitExceededException",
        operation="codebuild:start_build",
    )
    build_system(aws)


@AREA.case
def neither_engine_nor_permission(world: World) -> object:
    world.patch.setenv("DOCKER_HOST", "unix:///no/engine.sock")
    aws = ScriptedAws()
    aws.refusals["batch_get_builds"] = PermissionDeniedError(
        "Your AWS credentials do not allow codebuild:batch_get_builds. The statement MakeBuilds of the policy that "
        "`cloudknot permissions build` prints grants it. Ask the administrator of your AWS account for that policy.",
        operation="codebuild:batch_get_builds",
    )
    return choose_builder(cast(Cloud, aws), image_with(), "cloudknot")


@AREA.case
def unknown_builder(world: World) -> object:
    world.patch.setenv("CLOUDKNOT_BUILDER", "podman")
    return choose_builder(cast(Cloud, ScriptedAws()), image_with(), "cloudknot")
