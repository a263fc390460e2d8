"""Manifests of images, and the descriptors in them. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
"""The kinds of manifests that this client reads."""


def digest_of(content: bytes) -> str:
    """Return ``"sha256:"`` and the hexadecimal SHA-256 of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Descriptor:
    """A blob or a manifest, as a manifest names it."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Descriptor:
        """Return the descriptor in a part of a manifest."""
        return cls(str(content.get("mediaType", "")), str(content["digest"]), int(content["size"]))


@dataclass(frozen=True)
class ImageManifest:
    """A manifest in a registry: of one image, or an index of one image for each platform."""

    digest: str
    media_type: str
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The parsed body."""
        return dict(json.loads(self.body))

    @property
    def is_index(self) -> bool:
        return self.media_type in (OCI_INDEX, DOCKER_LIST)

    @property
    def is_docker(self) -> bool:
        """Whether it has Docker's media types, not OCI's."""
        return self.media_type in (DOCKER_MANIFEST, DOCKER_LIST)

    @property
    def config(self) -> Descriptor:
        """The configuration of an image."""
        return Descriptor.of(self.content["config"])

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers of an image, from the bottom up."""
        return tuple(Descriptor.of(layer) for layer in self.content["layers"])

    @property
    def platforms(self) -> dict[str, Descriptor]:
        """The images of an index by platform, for example ``"linux/amd64"``."""
        found: dict[str, Descriptor] = {}
        for entry in self.content.get("manifests", ()):
            platform = entry.get("platform", {})
            # The first one wins, as for Docker. Attestations have the platform "unknown/unknown".
            found.setdefault(f"{platform.get('os', '')}/{platform.get('architecture', '')}", Descriptor.of(entry))
        return found

    @property
    def size(self) -> int:
        """The bytes of the configuration and the compressed layers."""
        content = self.content
        return sum(part.get("size", 0) for part in (content.get("config", {}), *content.get("layers", ())))
