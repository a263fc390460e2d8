"""The description of an image, and the contract of a store that keeps images for jobs. No calls to AWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import Repository
    from cloudknot.program.packages.lock import LocalWheel, Lock
    from cloudknot.program.packages.target import InstallTarget


@dataclass(frozen=True)
class Image:
    """An image to publish: everything that it is built from.

    Attributes
    ----------
    platform : str
        ``"linux/amd64"`` or ``"linux/arm64"``.
    python : str
        The minor version of Python that it needs, for example ``"3.11"``.
    requirements : tuple of str
        All lines that pip installs: the program's requirements, the worker's own, and git repositories.
    files : mapping of str to bytes
        The whole build context by path; see `cloudknot.image.context`.
    lock : Lock
        Exactly the packages of an index that the environment gets, with their hashes.
    wheels : tuple of LocalWheel
        The local packages that the environment gets besides.
    base_image : str
        The image that the environment is added to.
    username : str
        The user that jobs run as; empty for the base image's own.
    environment_digest : str
        SHA-256 of everything that the environment is built from, in hexadecimal. It does not depend on the function.
    tag : str
        Format of the image's worker and digest of the whole image, such as ``"format2-"`` and 32 hexadecimal digits.
    has_environment_stage : bool
        Whether the environment can be built apart from the program.
    executables : frozenset of str
        Paths of the executable files that a person added.
    needs_engine : str
        The options that only a Docker engine can apply, for messages; empty when a virtual environment is enough.
    nocache : bool
        Whether to build and push the image even if it exists.
    extra_tags : tuple of str
        Tags for the image besides its own.
    """

    platform: str
    python: str
    requirements: tuple[str, ...]
    lock: Lock
    wheels: tuple[LocalWheel, ...]
    base_image: str
    username: str
    files: Mapping[str, bytes]
    environment_digest: str
    tag: str
    has_environment_stage: bool = True
    executables: frozenset[str] = frozenset()
    needs_engine: str = ""
    nocache: bool = False
    extra_tags: tuple[str, ...] = ()

    @property
    def must_run(self) -> str:
        """The parts that only a Docker engine can build, for messages; empty if the image can be assembled."""
        names = ", ".join(package.name for package in self.lock.sources())
        sources = f"packages without a wheel for {self.platform} ({names})" if names else ""
        return " and ".join(filter(None, (self.needs_engine, sources)))

    @property
    def environment_tag(self) -> str:
        """The tag of the environment's own image."""
        return f"env-{self.environment_digest[:32]}"


class ImageStore(Protocol):
    """A store from which jobs get their images, in place of a registry."""

    @property
    def target(self) -> InstallTarget:
        """The machine and Python of all jobs, whatever platform a knot's instance types have."""

    def has(self, image: Image) -> bool:
        """Return whether an image that was put here is still complete."""

    def put(self, image: Image, repository: Repository, uri: str) -> None:
        """Make the image available to jobs as ``uri``, and list it in the repository."""


def lacks(store: ImageStore | None, image: Image) -> bool:
    """Return whether a store has lost an image that the repository lists. A registry loses none."""
    return store is not None and not store.has(image)
