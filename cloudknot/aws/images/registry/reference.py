"""ImageReference: the parts of an image's name, as Docker reads them. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudknot.errors import refuse

HUB = "registry-1.docker.io"
"""The host of Docker Hub's API."""
HUB_NAMES = ("docker.io", "index.docker.io", HUB)
"""The names that people use for Docker Hub."""

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(?::\d+)?|\[[0-9A-Fa-f:]+\](?::\d+)?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Docker does the same: it speaks HTTP to a registry on loopback, and HTTPS to any other.
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class ImageReference:
    """The name of an image.

    Attributes
    ----------
    registry : str
        Host and port of the registry's API, for example ``"registry-1.docker.io"`` for Docker Hub.
    repository : str
        For example ``"library/python"`` for the image ``python``.
    tag : str
        Empty if the name has none.
    digest : str
        ``"sha256:"`` and 64 hexadecimal digits. Empty if the name has none.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Return the parts of a name such as ``"python:3.11-slim"`` or ``"host:5000/name@sha256:..."``."""
        name, _, digest = text.partition("@")
        head, separator, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        registry, repository = _split(f"{head}{separator}{last}")
        valid = (
            _REGISTRY.fullmatch(registry),
            _REPOSITORY.fullmatch(repository),
            _TAG.fullmatch(tag) or (not tag and not name.endswith(":")),
            _DIGEST.fullmatch(digest) or (not digest and "@" not in text),
        )
        if not all(valid):
            refuse(
                problem=f"{text!r} is not the name of an image.",
                cause="A name has lower-case letters, digits, and separators between them.",
                fix='Pass a name such as "python:3.11-slim" or "public.ecr.aws/docker/library/python:3.11-slim".',
            )
        return cls(registry, repository, tag, digest)

    @property
    def reference(self) -> str:
        """The digest, else the tag, else ``"latest"``: the last part of the address of a manifest."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        name = f"{self.registry}/{self.repository}" if self.registry != HUB else self.repository
        tag = f":{self.tag}" if self.tag else ""
        return f"{name.removeprefix('library/')}{tag}{'@' if self.digest else ''}{self.digest}"


def url_of(registry: str) -> str:
    """Return the address of a registry with ``http://`` or ``https://``."""
    return f"{'http' if is_loopback(registry) else 'https'}://{registry}"


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine."""
    return _LOOPBACK.fullmatch(host) is not None


def _split(name: str) -> tuple[str, str]:
    """Return registry and repository of a name without tag and digest."""
    first, slash, rest = name.partition("/")
    # Docker's rule: only a part with one of these characters is a host.
    if not slash or not (set(".:[") & set(first) or first == "localhost"):
        first, rest = "docker.io", name
    if first not in HUB_NAMES:
        return first, rest
    return HUB, rest if "/" in rest else f"library/{rest}"
