"""The contract of a builder: it runs Dockerfiles and pushes their images. No I/O.

Most images need none, because nothing has to run. `cloudknot.image.engine.builder.DockerBuilder` is one, and
`cloudknot.deploy.codebuild.code_builder.CodeBuilder` is another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.aws.images.image_store import Image


class ImageBuilder(Protocol):
    """A Docker engine, or AWS CodeBuild."""

    def publish_system(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the system stage of an image and push it as ``uri``, unless the repository has it."""

    def publish(self, image: Image, repository: Repository, uri: str) -> None:
        """Build the whole image, and push it as ``uri``."""

    def stop(self) -> None:
        """End the current build. Another thread calls it, when the user has interrupted the session."""
