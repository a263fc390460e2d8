"""The description of an image, and the contract of a place that keeps images for jobs. No AWS here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import Repository


@dataclass(frozen=True)
class Image:
    """An image to be published: all that it is built from.

    Attributes
    ----------
    platform : str
        ``"linux/amd64"`` or ``"linux/arm64"``.
    python : str
        The minor version that it must have, for example ``"3.11"``.
    requirements : tuple of str
        Everything that pip installs: the program's requirements, the worker's own, the GitHub installs.
    files : mapping of str to bytes
        The whole build context, by path; see `cloudknot.image.context`.
    environment_digest : str
        SHA-256 in hexadecimal of what the environment is made from; editing the function keeps it.
    tag : str
        Digest of everything in the image, 32 hexadecimal digits.
    has_environment_stage : bool
        Whether the environment can be built apart from the program.
    executables : frozenset of str
        Paths of the files that a person made executable.
    needs_engine : str
        What of it only a Docker engine can do, in words for people; empty when a virtual environment does as well.
    nocache : bool
        Whether it is to be built anew, and pushed, also when it exists.
    extra_tags : tuple of str
        Tags that it gets besides its own.
    """

    platform: str
    python: str
    requirements: tuple[str, ...]
    files: Mapping[str, bytes]
    environment_digest: str
    tag: str
    has_environment_stage: bool = True
    executables: frozenset[str] = frozenset()
    needs_engine: str = ""
    nocache: bool = False
    extra_tags: tuple[str, ...] = ()

    @property
    def environment_tag(self) -> str:
        """The tag of the environment alone."""
        return f"env-{self.environment_digest[:32]}"


class ImageStore(Protocol):
    """A place from where jobs get their images."""

    def put(self, image: Image, repository: Repository, uri: str) -> None:
        """Make the image available to jobs as ``uri``, and known to the repository."""
