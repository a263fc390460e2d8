"""Refusals and failures of container registries."""

from __future__ import annotations

import io
import json

from cloudknot.aws.images.registry import refusals
from cloudknot.aws.images.registry.client import Blob, Registry
from cloudknot.aws.images.registry.connections import Connections
from cloudknot.aws.images.registry.docker_config import login_for
from cloudknot.aws.images.registry.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor, digest_of
from cloudknot.aws.images.registry.reference import HUB, ImageReference
from cloudknot.aws.images.registry.refusals import RegistryAnswer
from tests.integration.messages.catalogue import Area, World, error_of
from tests.integration.registry.conftest import client
from tests.integration.registry.server import Fault, RegistryServer

AREA = Area("registry")
AREA.refuses(ImageReference.parse, {"text": "My Image"})
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def _answer(status: int, code: str, message: str) -> RegistryAnswer:
    return RegistryAnswer(status, {}, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


@AREA.case
def refusals_of_registries(world: World) -> list[Exception]:
    answers = [
        (HUB, _answer(429, "TOOMANYREQUESTS", "You have reached your unauthenticated pull rate limit")),
        ("ghcr.io", _answer(429, "TOOMANYREQUESTS", "too many requests")),
        (ECR, _answer(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")),
        (ECR, _answer(403, "DENIED", "User is not authorized to perform ecr:PutImage")),
        (ECR, _answer(404, "NAME_UNKNOWN", "The repository does not exist in the registry")),
        (ECR, _answer(400, "TAG_INVALID", "The image tag 'v1' already exists and is immutable.")),
        ("registry.example", _answer(507, "UNKNOWN", "no space left on device")),
        ("registry.example", _answer(503, "UNAVAILABLE", "service unavailable")),
        ("registry.example", _answer(405, "UNSUPPORTED", "The operation is unsupported.")),
    ]
    raised: list[Exception] = [
        refusals.refused(address, "library/python", answer, "/v2/x", anonymous=False) for address, answer in answers
    ]
    anonymous = _answer(401, "UNAUTHORIZED", "authentication required")
    raised += [refusals.refused(HUB, "me/private", anonymous, "/v2/x", anonymous=True)]
    return [*raised, *(refusals.no_answer(address, "Connection refused") for address in (HUB, "127.0.0.1:5000"))]


@AREA.case
def missing_credential_helper(world: World) -> None:
    world.path.joinpath("config.json").write_text(json.dumps({"credsStore": "missing"}))
    world.patch.setenv("DOCKER_CONFIG", str(world.path))
    login_for("ghcr.io")


@AREA.case
def faults_of_encryption(world: World) -> list[Exception]:
    with RegistryServer() as server:
        insecure = error_of(lambda: Connections(5).open("GET", f"https://{server.address}/v2/", {}))
    world.patch.setenv("AWS_CA_BUNDLE", str(world.path / "missing.pem"))
    return [insecure, error_of(lambda: Connections(5).open("GET", "http://127.0.0.1:1/", {}))]


@AREA.case
def redirect_without_encryption(world: World) -> None:
    with RegistryServer() as server, client(server.address) as registry:
        server.faults.append(Fault("GET", status=307, headers={"Location": "http://storage.example/x"}))
        registry.open_blob("x", digest_of(b"x"), 1).read()


def _unusual(registry: Registry, server: RegistryServer) -> list[Exception]:
    """Make the errors of a registry whose content is damaged or missing."""
    digest = digest_of(b"a")
    blob = Blob(digest, 1, lambda: io.BytesIO(b"b"))
    index = {"mediaType": OCI_INDEX, "manifests": []}
    registry.put_manifest("x", "index", OCI_INDEX, json.dumps(index).encode())
    server.blobs["damaged", digest] = b"b"
    server.manifests["x", digest] = (OCI_MANIFEST, b"{}")
    server.manifests["x", "old"] = ("application/vnd.docker.distribution.manifest.v1+json", b"{}")
    server.manifests["x", "page"] = ("text/html", b"<html>")
    return [
        error_of(lambda: registry.open_blob("x", digest, 1).read()),
        error_of(lambda: registry.read_blob("damaged", Descriptor("", digest, 1))),
        error_of(lambda: registry.push_blob("x", blob)),
        error_of(lambda: registry.push_blob("x", Blob(digest, 2, lambda: io.BytesIO(b"a")))),
        error_of(lambda: registry.image_manifest("x", "index", "linux/arm64")),
        error_of(lambda: registry.image_manifest("x", "old", "linux/arm64")),
        error_of(lambda: registry.manifest("x", digest)),
        error_of(lambda: registry.manifest("x", "page")),
    ]


@AREA.case
def damaged_and_missing_content(world: World) -> list[Exception]:
    with RegistryServer() as server, client(server.address) as registry:
        return _unusual(registry, server)
