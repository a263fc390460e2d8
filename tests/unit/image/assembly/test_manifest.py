"""Manifest and configuration keep the base image's settings, and have one kind of media types."""

import json

import pytest

from cloudknot.aws.images.registry.manifests import DOCKER_MANIFEST, OCI_MANIFEST, ImageManifest, digest_of
from cloudknot.image.assembly.layers.layer import Layer, Owner
from cloudknot.image.assembly.layers.user import JobUser
from cloudknot.image.assembly.manifest import Composition

BASE_CONFIG = {
    "architecture": "arm64",
    "os": "linux",
    "variant": "v8",
    "created": "2026-01-01T00:00:00Z",
    "container": "x",
    "config": {
        "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "HOME=/root", "PYTHONPATH=/lib/mine"],
        "Entrypoint": ["tini"],
        "Cmd": ["bash"],
        "Labels": {"maintainer": "me"},
        "User": "nobody",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:base"]},
    "history": [{"created_by": "ADD /", "created": "2026-01-01T00:00:00Z"}],
}
JO = JobUser("jo", Owner(1000, 1000), "/home/jo", True, True)
NEW = Layer("sha256:new", 7, "sha256:plain")


def base(media_type=OCI_MANIFEST):
    layers = [{"mediaType": "base-layer", "digest": "sha256:b", "size": 1}]
    return Composition.of(ImageManifest("", media_type, json.dumps({"layers": layers}).encode()), BASE_CONFIG)


def test_environment_has_paths_user_and_working_directory():
    settings = base().with_environment(JO, "python:3.11").config["config"]
    variables = dict(item.split("=", 1) for item in settings["Env"])
    assert variables["PATH"] == "/opt/cloudknot/env/bin:/usr/bin"
    assert variables["PYTHONPATH"] == "/opt/cloudknot:/lib/mine"
    assert (variables["HOME"], variables["USER"], variables["LANG"]) == ("/home/jo", "jo", "C.UTF-8")
    assert (settings["User"], settings["WorkingDir"], settings["Entrypoint"]) == ("jo", "/opt/cloudknot", [])
    assert settings["Cmd"] is None
    labels = {"maintainer": "me", "org.opencontainers.image.base.name": "python:3.11", "cloudknot.owner": "1000:1000"}
    assert settings["Labels"] == labels


def test_user_of_the_base_image_stays():
    nobody = JobUser("", Owner(), "", False, False)
    settings = base().with_environment(nobody, "python:3.11").config["config"]
    assert settings["User"] == "nobody"
    assert "HOME=/root" in settings["Env"]


def test_base_without_settings_gets_search_path():
    composition = Composition({"os": "linux"}, (), False).with_environment(JO, "scratch")
    assert composition.config["config"]["Env"][0].startswith("PATH=/opt/cloudknot/env/bin:/usr/local/sbin:")
    assert composition.with_layers([NEW], "x").config["rootfs"]["diff_ids"] == ["sha256:plain"]


def test_layers_and_history_grow_together():
    composition = base().with_layers([NEW, NEW], "packages")
    assert composition.config["rootfs"]["diff_ids"] == ["sha256:base", "sha256:plain", "sha256:plain"]
    assert len(composition.config["history"]) == 3
    assert [layer["digest"] for layer in composition.layers] == ["sha256:b", "sha256:new", "sha256:new"]
    assert len(BASE_CONFIG["rootfs"]["diff_ids"]) == 1


@pytest.mark.parametrize(
    ("media_type", "config_type", "layer_type"),
    [
        (
            OCI_MANIFEST,
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            DOCKER_MANIFEST,
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ],
)
def test_manifest_has_media_types_of_the_base_image(media_type, config_type, layer_type):
    composition = base(media_type).with_environment(JO, "x").with_layers([NEW], "y")
    kind, body = composition.manifest()
    content = json.loads(body)
    assert (kind, content["mediaType"], content["config"]["mediaType"]) == (media_type, media_type, config_type)
    assert [layer["mediaType"] for layer in content["layers"]] == ["base-layer", layer_type]
    blob = composition.config_blob()
    assert (content["config"]["digest"], content["config"]["size"]) == (digest_of(blob), len(blob))
    assert "container" not in json.loads(blob)
    assert json.loads(blob)["variant"] == "v8"


def test_owner_is_read_from_stored_environment():
    assert base().with_environment(JO, "x").with_labels({"a": "b"}).owner == Owner(1000, 1000)
    assert base().owner == Owner(0, 0)
