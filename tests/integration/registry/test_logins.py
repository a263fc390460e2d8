"""Logins: passwords, tokens that expire, refused logins, and secrets that stay with their registry."""

import base64
import json
import logging
import os
import traceback
from urllib.parse import parse_qs, urlsplit

import pytest

import cloudknot as ck
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.reference import ImageReference
from tests.integration.registry.conftest import blob_of, client
from tests.integration.registry.server import PASSWORD, USER, Fault

CHUNK = 1 << 20
CONTENT = os.urandom(5 * CHUNK)
BLOB = blob_of(CONTENT)
EXPIRED = b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate"}]}'


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """Return a function that writes Docker's settings."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda settings: (tmp_path / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("login", ["", "Basic", "Bearer"])
def test_image_is_pushed_and_read_with_each_kind_of_login(start, login):
    server, registry = start(login=login, chunk=CHUNK)
    assert registry.push_blob("x", BLOB)
    assert registry.open_blob("x", BLOB.digest, BLOB.size).read() == CONTENT
    refused = server.count("GET", "/token")
    # One token to read and one to write; a password goes with the first request.
    assert refused == (2 if login == "Bearer" else 0)


def test_token_is_demanded_for_what_the_request_does(start):
    server, registry = start(login="Bearer")
    registry.push_blob("x", BLOB)
    asked = [parse_qs(urlsplit(path).query) for method, path, _ in server.requests if path.startswith("/token")]
    assert asked[0] == {"service": ["registry"], "scope": ["repository:x:pull"]}


@pytest.mark.parametrize("uses", [1, 3, 6])
def test_token_that_expires_in_the_middle_is_renewed(start, uses):
    server, registry = start(login="Bearer", chunk=CHUNK)
    server.token_uses = uses
    sent = []
    assert registry.push_blob("x", BLOB, sent.append)
    assert server.blobs["x", BLOB.digest] == CONTENT
    # No upload was abandoned.
    assert not server.uploads
    assert sum(sent) == len(CONTENT)
    server.faults.append(Fault("GET", "blobs", after=CHUNK, times=3))
    assert registry.open_blob("x", BLOB.digest, BLOB.size).read() == CONTENT


def test_token_server_that_is_busy_is_asked_again(start):
    server, registry = start(login="Bearer")
    server.faults += [Fault("GET", "token", status=503), Fault("GET", "token"), Fault("GET", "token", status=429)]
    assert registry.push_blob("x", BLOB)


@pytest.mark.parametrize("login", ["Basic", "Bearer"])
def test_wrong_password_is_an_error_without_the_password(start, login, caplog):
    caplog.set_level(logging.DEBUG)
    server, _ = start(login=login)
    with client(server.address, username=USER, password="wr:ong-secret") as registry:
        with pytest.raises(ck.errors.PermissionDeniedError, match="refuses the login") as caught:
            registry.push_blob("x", BLOB)
        encoded = base64.b64encode(f"{USER}:wr:ong-secret".encode()).decode()
        shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(registry.login) + repr(registry)
    assert "ong-secret" not in shown
    assert encoded not in shown
    assert len([path for _, path, _ in server.requests if path.startswith("/v2/")]) == 1


def test_anonymous_client_is_told_that_the_image_is_private_or_missing(start):
    server, _ = start(login="Basic")
    with (
        client(server.address) as registry,
        pytest.raises(ck.errors.PermissionDeniedError, match=r"private or does not exist.*`docker login 127"),
    ):
        registry.manifest("x", "v1")


@pytest.mark.parametrize("login", ["Basic", "Bearer"])
def test_expired_login_is_renewed_once(start, login):
    server, _ = start(login=login, kind="ecr")
    renewals = []

    def renew():
        renewals.append(1)
        return RegistryLogin(server.address, USER, PASSWORD)

    with client(server.address, username=USER, password="old", renew=renew, chunk=CHUNK) as registry:
        assert registry.push_blob("x", BLOB)
        assert len(renewals) == 1
        if login == "Basic":
            # ECR reports an expired login as a missing permission.
            server.faults.append(Fault("GET", "blobs", status=403, body=EXPIRED))
            with pytest.raises(ck.errors.PermissionDeniedError):
                registry.open_blob("x", BLOB.digest, BLOB.size).read()
            assert len(renewals) == 2


def test_missing_permission_is_not_tried_again(start):
    server, registry = start(login="Basic")
    refusal = b'{"errors":[{"code":"DENIED","message":"User is not authorized to perform ecr:UploadLayerPart"}]}'
    server.faults.append(Fault("POST", times=9, status=403, body=refusal))
    with pytest.raises(ck.errors.PermissionDeniedError, match=r"ecr:UploadLayerPart\. Run `docker login"):
        registry.push_blob("x", BLOB)
    assert server.count("POST") == 1


def test_token_server_elsewhere_gets_no_password_in_the_clear(start):
    server, registry = start()
    challenge = {"WWW-Authenticate": 'Bearer realm="http://registry.example/token",service="x"'}
    server.faults.append(Fault("HEAD", times=9, status=401, headers=challenge))
    with pytest.raises(ck.errors.PermissionDeniedError):
        registry.push_blob("x", BLOB)


def test_docker_login_is_used_when_the_registry_asks_for_it(start, docker_config):
    server, _ = start(login="Basic")
    server.manifests["x", "v1"] = ("application/json", b"{}")
    docker_config({"auths": {server.address: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}})
    reference = ImageReference.parse(f"{server.address}/x:v1")
    with Registry.for_reference(reference) as registry:
        assert registry.manifest(reference.repository, reference.reference).body == b"{}"
    assert ["Authorization" in headers for _, _, headers in server.requests] == [False, True]


def test_given_login_comes_before_docker_s(start, docker_config):
    server, _ = start(login="Basic")
    server.manifests["x", "v1"] = ("application/json", b"{}")
    docker_config({"auths": {server.address: {"username": "wrong", "password": "wrong"}}})
    reference = ImageReference.parse(f"{server.address}/x:v1")
    logins = (RegistryLogin("elsewhere:5000", "b", "b"), RegistryLogin(server.address, USER, PASSWORD))
    with Registry.for_reference(reference, *logins) as registry:
        assert registry.manifest("x", "v1").body == b"{}"
    assert len(server.requests) == 1


def test_identity_token_is_exchanged_for_an_access_token(start, docker_config):
    server, _ = start(login="Bearer")
    server.manifests["x", "v1"] = ("application/json", b"{}")
    docker_config({"auths": {server.address: {"identitytoken": "long-lived"}}})
    server.faults.append(Fault("POST", "token", status=200, body=b'{"access_token":"short-lived"}'))
    server.tokens["Bearer short-lived"] = 9
    with Registry.for_reference(ImageReference.parse(f"{server.address}/x")) as registry:
        assert registry.manifest("x", "v1").body == b"{}"


def test_login_for_ecr_is_used_for_other_accounts_of_the_region_only():
    def chosen(registry):
        login = RegistryLogin("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "AWS", "token")
        return Registry.for_reference(ImageReference(registry, "x"), login).login

    other = "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
    assert chosen(other) == (other, "AWS", "token")
    for stranger in (
        "210987654321.dkr.ecr.us-east-1.amazonaws.com",
        "210987654321.dkr.ecr.eu-west-1.amazonaws.com.example",
        "registry.example",
        "public.ecr.aws",
    ):
        assert chosen(stranger) == (stranger, "", "")
