"""CodeBuilder: build images on AWS CodeBuild, in the user's own account.

The files of a build travel through the bucket. The build logs in to the registry with the role of its project, so no
secret is in the request, the files or the log.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.images.codebuild import CONTEXTS, BuildVariable
from cloudknot.deploy.codebuild.build_log import FAILED, BuildFollower
from cloudknot.deploy.codebuild.machines import MACHINES, estimate
from cloudknot.deploy.codebuild.project import make_project
from cloudknot.errors import CloudError, ImageError, QuotaExceededError
from cloudknot.image import context
from cloudknot.image.engine import build_errors
from cloudknot.image.engine.build_log import LOG_LINES, EngineLog
from cloudknot.image.engine.builder import as_tar
from cloudknot.image.engine.private_files import with_private_files
from cloudknot.options import streams

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image

TITLE = "Building the image on AWS CodeBuild"
OTHER_WAY = (
    "Or start a Docker engine on this machine, which then builds the image: `docker info` shows whether one runs."
)
NO_BUILDS = (
    "Your AWS account may not run another build at the moment. New accounts often have a limit of 0 or 1. Wait for "
    'running builds to end, or ask AWS for a higher limit: Service Quotas console, AWS CodeBuild, "Concurrently '
    f'running builds" for your kind of machine (small). {OTHER_WAY}'
)
AGAIN = "Try again. If it happens again, look for a problem of CodeBuild in the AWS Health Dashboard."
ADVICE = {
    "context": "The project's role could not read the files of the image from the bucket. If its permissions boundary "
    "is from an earlier version, add the statements for builds that `cloudknot permissions boundary` prints. If a KMS "
    "key of your own encrypts the bucket, use a bucket with another encryption: cloudknot.set_s3_params(...).",
    "login": "The project's role could not log in to the registry. Check whether a policy of your organisation denies "
    "ecr:GetAuthorizationToken, and try again.",
    "push": "The project's role could not push the image. If its permissions boundary is from an earlier version, add "
    "the statements for builds that `cloudknot permissions boundary` prints, and try again.",
}
"""The fix for a failure in a step of the buildspec."""
_OFFICIAL = re.compile(r"[a-z0-9][a-z0-9._-]*(:[\w][\w.-]*)?")
"""The short name of an official image of Docker Hub."""


class CodeBuilder:
    """A builder of images on AWS CodeBuild. It satisfies `cloudknot.image.image_builder.ImageBuilder`.

    Every method raises `ImageError` when an image cannot be built, and `CloudError` when AWS refuses a call.

    Parameters
    ----------
    cloud : Cloud
    boundary : str
        ARN of the permissions boundary for the role of the project.
    reason : str
        The reason for a build on CodeBuild, for the user.
    clock, sleep : callable
        The current time in seconds, and a wait.
    """

    def __init__(
        self,
        cloud: Cloud,
        boundary: str = "",
        reason: str = "CLOUDKNOT_BUILDER asks for it",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud, self._boundary, self._reason = cloud, boundary, reason
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._stopped = False
        # The id of the running build and the key of its files, for `stop`.
        self._build_id = self._key = ""

    def publish_system(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the system stage of an image and push it as ``uri``, unless the repository has it."""
        files = context.system_of(image.files)
        assert files is not None
        if image.nocache or not repository.has_tag(_tag(uri)):
            self._publish(image, files, repository, uri, {})

    def publish(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the whole image, and push it as ``uri``."""
        # The Dockerfile of a person may end with another Python than its program needs.
        check = {"CHECK": context.python_check(image.python)}
        # No login for an index reaches the build, so files of private indexes go with the context.
        files = with_private_files(_labelled(image.files), image)
        self._publish(image, files, repository, uri, check)

    def stop(self) -> None:
        """End the current build, and delete its files."""
        self._stopped = True
        self._end()

    def _publish(
        self, image: Image, files: Mapping[str, bytes], repository: Repository, uri: str, more: Mapping[str, str]
    ) -> None:
        machine = MACHINES[image.platform]
        streams.logger.warning(
            "AWS CodeBuild builds the image, because %s. It costs about $%g for each minute of the build (an "
            "estimate, with the price of us-east-1).",
            self._reason,
            machine.dollars,
        )
        # The bucket may be under construction in another thread.
        self._cloud.storage.ensure_bucket(repository.tags)
        project = make_project(self._cloud, repository, self._boundary)
        try:
            key = self._send(files, image)
            variables = {**self._variables(image, files, uri, key), **more}
            follower = BuildFollower(self._cloud, self._start(project, image, variables), self._clock, self._sleep)
            started = self._clock()
            try:
                self._follow(follower, image)
            except ImageError:
                # Another session may have pushed the same image in the meantime.
                if follower.step != "push" or not repository.has_tag(_tag(uri)):
                    raise
            finally:
                streams.logger.warning(
                    "The build on AWS CodeBuild took %s.", estimate(machine, self._clock() - started)
                )
        finally:
            self._end()

    def _send(self, files: Mapping[str, bytes], image: Image) -> str:
        """Store the build context in the bucket, and return its key."""
        archive = io.BytesIO()
        with gzip.GzipFile(fileobj=archive, mode="wb", mtime=0) as packed:
            packed.write(as_tar(files, image.executables).getbuffer())
        # A name of its own: a session that ends deletes its files only.
        self._key = f"{CONTEXTS}/{uuid.uuid4()}.tar.gz"
        self._cloud.storage.upload(self._key, [archive.getvalue()])
        return self._key

    def _variables(self, image: Image, files: Mapping[str, bytes], uri: str, key: str) -> dict[str, str]:
        """Return the environment variables of the build. None of them is a secret."""
        base = context.base_of(files)
        # Docker Hub limits the pulls of all users of a CodeBuild address together. AWS's own copy has no such limit.
        mirror = {"BASE": base, "MIRROR": f"public.ecr.aws/docker/library/{base}"} if _OFFICIAL.fullmatch(base) else {}
        return {
            "CONTEXT_BUCKET": self._cloud.bucket,
            "CONTEXT_KEY": key,
            "CONTEXT_OWNER": self._cloud.bucket_owner,
            "IMAGE": uri,
            "PLATFORM": image.platform,
            "REGISTRY": uri.partition("/")[0],
            **mirror,
        }

    def _start(self, project: str, image: Image, variables: Mapping[str, str]) -> str:
        """Start the build, and return its id."""
        machine = MACHINES[image.platform]
        items: list[BuildVariable] = [{"name": name, "value": value} for name, value in variables.items()]
        with self._lock:
            if self._stopped:
                raise ImageError("The build of the image was stopped. Create the knot again to build it.")
            try:
                answer = clients.codebuild(self._cloud).start_build(
                    projectName=project,
                    environmentTypeOverride=machine.kind,
                    imageOverride=machine.image,
                    environmentVariablesOverride=items,
                    # CodeBuild recognises the repetition of a request whose answer was lost.
                    idempotencyToken=str(uuid.uuid4()),
                )
            except QuotaExceededError as error:
                raise QuotaExceededError(f"{NO_BUILDS} {error}", code=error.code, operation=error.operation) from error
            self._build_id = answer["build"]["id"]
        return self._build_id

    def _follow(self, follower: BuildFollower, image: Image) -> None:
        """Show the log of a build until it ends; raise `ImageError` if it failed."""
        try:
            with EngineLog(TITLE) as log:
                log.follow(follower.events())
        except ImageError as error:
            self._build_id = ""
            raise _explained(error, follower, image) from error
        self._build_id = ""

    def _end(self) -> None:
        """Stop the build if it has not ended, and delete its files."""
        with self._lock:
            build_id, self._build_id = self._build_id, ""
            key, self._key = self._key, ""
        # The error that ends the build must not be replaced. CodeBuild ends the build by itself after an hour.
        with suppress(CloudError):
            if build_id:
                clients.codebuild(self._cloud).stop_build(id=build_id)
        with suppress(CloudError):
            if key:
                self._cloud.storage.delete(key)


def _explained(error: ImageError, follower: BuildFollower, image: Image) -> ImageError:
    """Return the error for a failed build, with its cause and fix."""
    has_failed = follower.build["buildStatus"] == FAILED
    if has_failed and follower.step == "build":
        return build_errors.explain(error, image, on_codebuild=True)
    log = "\n".join(follower.lines[-LOG_LINES:])
    if has_failed and follower.step == "check":
        return build_errors.python_failed(log, image, on_codebuild=True)
    place = follower.build.get("logs", {})
    # A failed step of the Dockerfile is no part of this text: the Dockerfile is not the cause.
    problem = f"{TITLE} failed. {follower.reason().rstrip('.')}."
    fix = ADVICE.get(follower.step, AGAIN) if has_failed else AGAIN
    where = f" The log is {place['streamName']} in {place['groupName']}." if place.get("streamName") else ""
    end = f" The end of its log:\n{log}" if log else ""
    return ImageError(f"{problem} {fix} {OTHER_WAY}{where}{end}", log=log)


def _labelled(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a build context with the labels of its program in the Dockerfile."""
    info = context.program_info(files)
    labels = {"org.opencontainers.image.title": info["function"], "cloudknot.program": info["digest"]}
    lines = "".join(f"\nLABEL {name}={json.dumps(value)}" for name, value in labels.items())
    return {**files, context.DOCKERFILE: files[context.DOCKERFILE] + f"{lines}\n".encode()}


def _tag(uri: str) -> str:
    return uri.rpartition(":")[2]
