"""The manifest and the configuration of an assembled image. No I/O: the same parts give the same bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudknot.aws.images.registry.manifests import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    ImageManifest,
    digest_of,
)
from cloudknot.image.assembly.base.facts import DEFAULT_PATH
from cloudknot.image.assembly.layers import layout
from cloudknot.image.assembly.layers.layer import Layer, Owner
from cloudknot.image.assembly.layers.user import JobUser

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BASE_LABEL = "org.opencontainers.image.base.name"
TITLE_LABEL = "org.opencontainers.image.title"
PROGRAM_LABEL = "cloudknot.program"
OWNER_LABEL = "cloudknot.owner"
"""The label of an environment with the numbers of its user and group, which own the working directory."""
# The engine's own notes about the container that built the image.
_OF_THE_BUILD = ("container", "container_config", "docker_version", "id", "parent", "Size")


@dataclass(frozen=True)
class Composition:
    """An image that is not stored yet: its configuration, and the descriptors of its layers.

    Attributes
    ----------
    config : mapping
    layers : tuple of mapping
        Descriptors as manifests have them.
    is_docker : bool
        Whether it has Docker's media types, not OCI's. All parts of an image are of one kind.
    """

    config: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]
    is_docker: bool

    @classmethod
    def of(cls, manifest: ImageManifest, config: Mapping[str, Any]) -> Composition:
        """Return the composition of an image in a registry."""
        content = manifest.content
        is_docker = manifest.media_type == DOCKER_MANIFEST
        return cls(config, tuple(content["layers"]), is_docker)

    def with_layers(self, layers: Sequence[Layer], step: str) -> Composition:
        """Return the composition with more layers on top."""
        config = copy.deepcopy(dict(self.config))
        rootfs = config.setdefault("rootfs", {"type": "layers", "diff_ids": []})
        rootfs["diff_ids"] = [*rootfs["diff_ids"], *(layer.diff_id for layer in layers)]
        # Tools count the entries of the history that have a layer, so each layer has one.
        entry = {"created": config.get("created", "1980-01-01T00:00:00Z"), "created_by": f"cloudknot: {step}"}
        config["history"] = [*(config.get("history") or ()), *(dict(entry) for _ in layers)]
        media_type = DOCKER_LAYER if self.is_docker else OCI_LAYER
        added = [{"mediaType": media_type, "digest": layer.digest, "size": layer.size} for layer in layers]
        return Composition(config, (*self.layers, *added), self.is_docker)

    def with_environment(self, user: JobUser, base_name: str) -> Composition:
        """Return the composition with the settings of jobs: search paths, user, and working directory."""
        config = {key: value for key, value in copy.deepcopy(dict(self.config)).items() if key not in _OF_THE_BUILD}
        settings = {**(config.get("config") or {})}
        settings["Env"] = _variables(settings.get("Env") or (), user)
        # A job gives the whole command. An entry point would take it as arguments.
        settings |= {"Entrypoint": [], "Cmd": None, "WorkingDir": layout.HOME}
        if user.name:
            settings["User"] = user.name
        settings.pop("OnBuild", None)
        owner = f"{user.owner.uid}:{user.owner.gid}"
        settings["Labels"] = {**(settings.get("Labels") or {}), BASE_LABEL: base_name, OWNER_LABEL: owner}
        return Composition({**config, "config": settings}, self.layers, self.is_docker)

    def with_labels(self, labels: Mapping[str, str]) -> Composition:
        """Return the composition with more labels."""
        config = copy.deepcopy(dict(self.config))
        config["config"]["Labels"] = {**(config["config"].get("Labels") or {}), **labels}
        return Composition(config, self.layers, self.is_docker)

    @property
    def owner(self) -> Owner:
        """The owner of the working directory."""
        label = (self.config["config"].get("Labels") or {}).get(OWNER_LABEL, "0:0")
        uid, _, gid = label.partition(":")
        return Owner(int(uid), int(gid))

    def config_blob(self) -> bytes:
        """Return the bytes of the configuration."""
        return _json(self.config)

    def manifest(self) -> tuple[str, bytes]:
        """Return the media type and the bytes of the manifest."""
        blob = self.config_blob()
        media_type = DOCKER_MANIFEST if self.is_docker else OCI_MANIFEST
        kind = DOCKER_CONFIG if self.is_docker else OCI_CONFIG
        config = {"mediaType": kind, "digest": digest_of(blob), "size": len(blob)}
        content = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": list(self.layers)}
        return media_type, _json(content)


def _variables(inherited: Sequence[str], user: JobUser) -> list[str]:
    """Return the environment variables of jobs, those of the base image first."""
    variables = dict(item.partition("=")[::2] for item in inherited)
    variables["PATH"] = f"{layout.ENVIRONMENT}/bin:{variables.get('PATH') or DEFAULT_PATH}"
    own_path = variables.get("PYTHONPATH")
    variables["PYTHONPATH"] = f"{layout.HOME}:{own_path}" if own_path else layout.HOME
    variables |= {"PYTHONUNBUFFERED": "1", "VIRTUAL_ENV": layout.ENVIRONMENT}
    if user.name:
        variables |= {"HOME": user.home, "USER": user.name}
    return [f"{name}={value}" for name, value in variables.items()]


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
