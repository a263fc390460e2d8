"""Reads of manifests and blobs: cuts, wrong content, redirects, platforms, and copies between registries."""

import io
import json
import os
import shutil
import tarfile

import pytest

import cloudknot as ck
from cloudknot.aws.images.registry.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    digest_of,
)
from tests.integration.registry.server import PASSWORD, Fault

CHUNK = 1 << 20
CONTENT = os.urandom(3 * CHUNK + 4321)
DIGEST, SIZE = digest_of(CONTENT), len(CONTENT)


def manifest_of(layers, **fields):
    config = {"mediaType": "c", "digest": digest_of(b"{}"), "size": 2}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers, **fields}).encode()


@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_blob_goes_on_after_a_cut(start, cuts, ignores_ranges):
    server, registry = start()
    server.ignores_ranges = ignores_ranges
    server.add("x", CONTENT)
    server.faults.append(Fault("GET", "blobs", times=cuts, after=CHUNK))
    with registry.open_blob("x", DIGEST, SIZE) as stream:
        assert stream.read() == CONTENT
    asked = [headers.get("Range") for method, _, headers in server.requests if method == "GET"]
    assert len(asked) == cuts + 1
    assert asked[1].startswith("bytes=") or ignores_ranges


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("read", ["blob", "manifest", "config"])
def test_each_read_is_repeated_after_a_temporary_failure(start, status, read):
    server, registry = start()
    server.add("x", b"{}")
    registry.put_manifest("x", "v1", OCI_MANIFEST, manifest_of([]))
    manifest = registry.manifest("x", "v1")
    server.faults.append(Fault("GET", times=2, status=status, headers={"Retry-After": "0"}))
    if read == "blob":
        assert registry.open_blob("x", digest_of(b"{}"), 2).read() == b"{}"
    elif read == "config":
        assert registry.config("x", manifest) == {}
    else:
        assert registry.manifest("x", "v1") == manifest


@pytest.mark.parametrize("after", [0, CHUNK])
def test_blob_that_never_arrives_is_an_error(start, after):
    server, registry = start(patience=0.5)
    server.add("x", CONTENT)
    # Each attempt after the first brings nothing.
    server.faults += [Fault("GET", after=after), Fault("GET", times=1000)]
    with pytest.raises(ck.CloudError, match=r"does not answer: .*\. Start the registry"):
        registry.open_blob("x", DIGEST, SIZE).read()


def test_blob_with_other_content_than_its_digest_is_refused(start):
    server, registry = start()
    damaged = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    server.blobs["x", DIGEST] = damaged
    target = io.BytesIO()
    with pytest.raises(ck.errors.ImageError, match="sent other bytes for the blob"):
        shutil.copyfileobj(registry.open_blob("x", DIGEST, SIZE), target)
    assert target.tell() < SIZE


def test_damage_is_found_in_a_blob_that_was_cut(start):
    server, registry = start()
    server.blobs["x", DIGEST] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.faults.append(Fault("GET", after=CHUNK))
    with pytest.raises(ck.errors.ImageError, match="sent other bytes"):
        registry.open_blob("x", DIGEST, SIZE).read()


def test_blob_is_a_seekable_file(start):
    server, registry = start()
    server.add("x", CONTENT)
    with registry.open_blob("x", DIGEST, SIZE) as stream:
        stream.seek(2 * CHUNK)
        assert stream.read(100) == CONTENT[2 * CHUNK :][:100]
        stream.seek(0)
        assert stream.read() == CONTENT
        assert stream.seek(-5, io.SEEK_END) == SIZE - 5
        assert stream.read() == CONTENT[-5:]
        assert stream.read() == b""


def test_tar_archive_is_read_while_it_arrives(start):
    server, registry = start()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in ("etc/passwd", "large"):
            info = tarfile.TarInfo(name)
            info.size = 300_000
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    content = archive.getvalue()
    server.add("x", content)
    server.faults.append(Fault("GET", after=100_000))
    with (
        registry.open_blob("x", digest_of(content), len(content)) as stream,
        tarfile.open(fileobj=stream, mode="r|*") as tar,
    ):
        assert tar.getnames() == ["etc/passwd", "large"]


def test_missing_manifest_is_none_and_missing_blob_an_error(start):
    _, registry = start()
    assert registry.manifest("x", "v1") is None
    with pytest.raises(ck.errors.ResourceDoesNotExistException, match="although an image names it"):
        registry.open_blob("x", DIGEST, SIZE).read()


def test_manifest_with_another_digest_is_refused(start):
    server, registry = start()
    server.manifests["x", DIGEST] = (OCI_MANIFEST, b"{}")
    with pytest.raises(ck.errors.ImageError, match=f"in place of {DIGEST}"):
        registry.manifest("x", DIGEST)


def test_page_of_another_server_is_no_manifest(start):
    server, registry = start()
    server.faults.append(Fault("GET", status=200, headers={"Content-Type": "text/html"}, body=b"<html>"))
    with pytest.raises(ck.CloudError, match="is not a container registry"):
        registry.manifest("x", "v1")


def test_answer_without_end_is_refused(start):
    server, registry = start()
    server.manifests["x", "v1"] = (OCI_MANIFEST, bytes(9 << 20))
    with pytest.raises(ck.CloudError, match="is not a container registry"):
        registry.manifest("x", "v1")


@pytest.mark.parametrize(("index", "image"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)])
def test_image_of_the_platform_is_chosen(start, index, image):
    _, registry = start()
    entries = []
    for architecture in ("arm64", "amd64", "unknown"):
        body = manifest_of([{"mediaType": "l", "digest": DIGEST, "size": SIZE}], mediaType=image, note=architecture)
        platform = {"os": "linux" if architecture != "unknown" else "unknown", "architecture": architecture}
        digest = registry.put_manifest("x", digest_of(body), image, body)
        entries.append({"mediaType": image, "digest": digest, "size": len(body), "platform": platform})
    registry.put_manifest("x", "v1", index, json.dumps({"mediaType": index, "manifests": entries}).encode())
    found = registry.image_manifest("x", "v1", "linux/arm64")
    assert found.content["note"] == "arm64"
    assert found.layers == (Descriptor("l", DIGEST, SIZE),)
    assert found.is_docker == (image == DOCKER_MANIFEST)
    assert registry.image_manifest("x", found.digest, "linux/arm64") == found
    assert registry.image_manifest("x", "v2", "linux/arm64") is None
    with pytest.raises(ck.errors.ImageError, match=r"for linux/amd64, linux/arm64, but not for linux/s390x\."):
        registry.image_manifest("x", "v1", "linux/s390x")


def test_image_in_an_old_format_is_refused(start):
    server, registry = start()
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.manifests["x", "v1"] = (old, b'{"schemaVersion":1}')
    with pytest.raises(ck.errors.ImageError, match=r"in the format application/vnd\.docker\."):
        registry.image_manifest("x", "v1", "linux/amd64")
    assert registry.manifest("x", "v1").media_type == old


@pytest.mark.parametrize("login", ["Basic", "Bearer"])
def test_redirect_to_storage_gets_no_login(start, login):
    server, registry = start(login=login)
    storage, _ = start()
    server.storage = storage.address
    server.add("x", CONTENT)
    storage.add("x", CONTENT)
    storage.faults.append(Fault("GET", after=CHUNK))
    assert registry.open_blob("x", DIGEST, SIZE).read() == CONTENT
    assert len(storage.requests) == 2
    assert not any("Authorization" in headers for _, _, headers in storage.requests)
    assert PASSWORD not in repr(storage.requests)
    assert any("Authorization" in headers for _, _, headers in server.requests)


def test_redirect_with_an_expired_signature_is_asked_for_again(start):
    server, registry = start(login="Basic")
    storage, _ = start()
    server.storage = storage.address
    server.add("x", CONTENT)
    storage.add("x", CONTENT)
    storage.faults.append(Fault("GET", status=403, body=b"<Message>Request has expired</Message>"))
    assert registry.open_blob("x", DIGEST, SIZE).read() == CONTENT
    assert server.count("GET") == 2


def test_redirects_in_a_circle_end(start):
    server, registry = start(patience=0.5)
    server.faults.append(Fault("GET", times=1000, status=307, headers={"Location": "/v2/again"}))
    with pytest.raises(ck.CloudError, match="redirects"):
        registry.open_blob("x", DIGEST, SIZE).read()


@pytest.mark.parametrize("damage", ["none", "download cut", "upload cut", "both cut"])
def test_blob_is_copied_between_registries(start, damage):
    source_server, source = start()
    server, registry = start(chunk=CHUNK)
    source_server.add("base", CONTENT)
    if damage in ("download cut", "both cut"):
        source_server.faults.append(Fault("GET", times=2, after=CHUNK + 99))
    if damage in ("upload cut", "both cut"):
        server.faults.append(Fault("PATCH", f"state={CHUNK}", after=CHUNK // 2))
    sent = []
    assert registry.copy_blob("x", Descriptor("l", DIGEST, SIZE), source, "base", sent.append)
    assert server.blobs["x", DIGEST] == CONTENT
    assert sum(sent) == SIZE
    requests = len(source_server.requests)
    assert not registry.copy_blob("x", Descriptor("l", DIGEST, SIZE), source, "base")
    assert len(source_server.requests) == requests


def test_blobs_are_copied_within_a_registry_without_sending_them(start):
    server, registry = start()
    contents = [os.urandom(1000) for _ in range(6)]
    blobs = [Descriptor("l", server.add("base", content), 1000) for content in contents]
    registry.copy_blobs("x", blobs, registry, "base")
    assert server.received == 0
    assert all(("x", blob.digest) in server.blobs for blob in blobs)


def test_damaged_blob_is_not_copied(start):
    source_server, source = start()
    server, registry = start()
    source_server.blobs["base", DIGEST] = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with pytest.raises(ck.errors.ImageError, match=f"The registry {source_server.address} sent other bytes"):
        registry.copy_blobs("x", [Descriptor("l", DIGEST, SIZE)], source, "base")
    assert not server.blobs
