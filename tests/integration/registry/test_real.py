"""The client against docker-registry, and other tools' view of the images that it pushes."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading

import pytest

from cloudknot.aws.images.registry.client import Blob
from cloudknot.aws.images.registry.manifests import OCI_MANIFEST, Descriptor, digest_of
from tests.helpers.paths import ROOT
from tests.helpers.relay import Relay
from tests.integration.registry.conftest import blob_of, client

CHUNK = 1 << 20
CONTENT = os.urandom(6 * CHUNK + 77)
BLOB = blob_of(CONTENT)


def through(machine, relay):
    return client(relay.address, username=machine.username, password=machine.password, chunk=CHUNK)


@pytest.fixture
def relay(machine):
    host, port = machine.registry.split(":")
    with Relay((host, int(port))) as relay:
        yield relay


@pytest.mark.parametrize("after", [CHUNK // 2, 3 * CHUNK + 1000])
def test_upload_survives_a_cut_connection(machine, real, relay, after):
    registry, repository = real
    with through(machine, relay) as cut_off:
        relay.hold_after(after)
        breaker = threading.Thread(target=lambda: (relay.held.wait(60), relay.cut(b"nothing"), relay.mend()))
        breaker.start()
        assert cut_off.push_blob(repository, BLOB)
        breaker.join()
    assert registry.open_blob(repository, BLOB.digest, BLOB.size).read() == CONTENT


def test_registry_that_is_away_for_a_moment_is_waited_for(machine, real, relay):
    registry, repository = real
    with through(machine, relay) as cut_off:
        assert not cut_off.has_blob(repository, BLOB.digest)
        relay.cut()
        threading.Timer(1.0, relay.mend).start()
        assert cut_off.push_blob(repository, BLOB)
    assert registry.has_blob(repository, BLOB.digest)


def test_download_survives_a_cut_connection(machine, real, relay):
    registry, repository = real
    registry.push_blob(repository, BLOB)
    with through(machine, relay) as cut_off, cut_off.open_blob(repository, BLOB.digest, BLOB.size) as stream:
        content = stream.read(CHUNK)
        relay.cut(b"nothing")
        relay.mend()
        content += stream.read()
    assert content == CONTENT
    assert len([path for method, path in relay.requests if method == "GET"]) == 2


def test_two_sessions_push_at_once(machine, real, relay):
    registry, repository = real
    barrier = threading.Barrier(2)
    blob = Blob(BLOB.digest, BLOB.size, lambda: (barrier.wait(60), io.BytesIO(CONTENT))[1])
    done = []
    with through(machine, relay) as one, through(machine, relay) as two:
        threads = [threading.Thread(target=lambda r=r: done.append(r.push_blob(repository, blob))) for r in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert done == [True, True]
    assert registry.open_blob(repository, BLOB.digest, BLOB.size).read() == CONTENT


def test_wrong_digest_does_not_enter_the_registry(real):
    registry, repository = real
    with pytest.raises(Exception, match="received other bytes"):
        registry.push_blob(repository, Blob(digest_of(b"x"), len(CONTENT), lambda: io.BytesIO(CONTENT)))
    assert not registry.has_blob(repository, digest_of(b"x"))


def push_image(registry, repository):
    """Push an image with two layers, and return the content of its files."""
    files, layers, diffs = {"etc/motd": b"hello\n", "opt/large": os.urandom(2 * CHUNK)}, [], []
    for name, content in files.items():
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        layer = archive.getvalue()
        registry.push_blob(repository, blob_of(layer))
        diffs.append(digest_of(layer))
        media_type = "application/vnd.oci.image.layer.v1.tar"
        layers.append({"mediaType": media_type, "digest": digest_of(layer), "size": len(layer)})
    rootfs = {"type": "layers", "diff_ids": diffs}
    config = json.dumps(
        {"architecture": "arm64", "os": "linux", "config": {"User": "1000"}, "rootfs": rootfs}
    ).encode()
    registry.push_blob(repository, blob_of(config))
    media_type = "application/vnd.oci.image.config.v1+json"
    descriptor = {"mediaType": media_type, "digest": digest_of(config), "size": len(config)}
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor, "layers": layers}
    digest = registry.put_manifest(repository, "v1", OCI_MANIFEST, json.dumps(body).encode())
    return digest, files


def run(*command):
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


@pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci")
def test_skopeo_and_umoci_read_the_image(machine, real, tmp_path):
    registry, repository = real
    digest, files = push_image(registry, repository)
    login = tmp_path / "auth.json"
    # The password stays off the command line.
    command = ["skopeo", "login", "--tls-verify=false", "--authfile", str(login), "-u", machine.username]
    subprocess.run([*command, "--password-stdin", machine.registry], input=machine.password, text=True, check=True)
    image = f"docker://{machine.registry}/{repository}:v1"
    options = ("--authfile", str(login), "--override-arch", "arm64")
    found = json.loads(run("skopeo", *options[2:], "inspect", "--tls-verify=false", *options[:2], image))
    assert (found["Digest"], found["Architecture"], len(found["Layers"])) == (digest, "arm64", 2)
    layout = f"oci:{tmp_path / 'layout'}:v1"
    run("skopeo", *options[2:], "copy", "--src-tls-verify=false", *options[:2], image, layout)
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'layout'}:v1", str(tmp_path / "bundle"))
    assert {name: (tmp_path / "bundle" / "rootfs" / name).read_bytes() for name in files} == files


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
def test_image_that_skopeo_pushes_is_read(machine, real, tmp_path):
    registry, repository = real
    digest, _ = push_image(registry, repository)
    source = f"docker://{machine.registry}/{repository}:v1"
    login = f"{machine.username}:{machine.password}"
    options = ["--src-creds", login, "--dest-creds", login, "--src-tls-verify=false", "--dest-tls-verify=false"]
    run("skopeo", "--override-arch", "arm64", "copy", *options, "--format", "v2s2", source, source.replace("v1", "v2"))
    manifest = registry.image_manifest(repository, "v2", "linux/arm64")
    assert manifest.is_docker
    assert manifest.digest != digest
    assert registry.config(repository, manifest)["config"]["User"] == "1000"
    assert all(registry.has_blob(repository, layer.digest) for layer in manifest.layers)


MEMORY = """
import sys, io, hashlib
from pathlib import Path
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Blob, Registry
from cloudknot.aws.images.registry.manifests import Descriptor

address, username, repository, path, digest, size = sys.argv[1:]
login = RegistryLogin(address, username, sys.stdin.read())
registry, other = Registry(login), Registry(RegistryLogin(address.replace("127.0.0.1", "localhost"), *login[1:]))
blob = Blob(digest, int(size), lambda: open(path, "rb"))
registry.push_blob(repository, Blob("sha256:" + hashlib.sha256(b"x").hexdigest(), 1, lambda: io.BytesIO(b"x")))


def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


# A process inherits the peak of the one that started it. This resets it.
Path("/proc/self/clear_refs").write_text("5")
before = peak()
registry.push_blobs(repository, [blob])
# The two names of this machine are two registries to the client, so the bytes pass through it.
other.copy_blobs(repository + "/copy", [Descriptor("", digest, int(size))], registry, repository)
assert other.has_blob(repository + "/copy", digest)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_blob(machine, real, tmp_path):
    _, repository = real
    path, size = tmp_path / "blob", 300 << 20
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    arguments = (machine.registry, machine.username, repository, str(path), digest, str(size))
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, *arguments],
        input=machine.password,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    print(f"{result.stdout.strip()} KiB more for {size >> 20} MiB")
    assert int(result.stdout) < 16 << 10


def test_blob_is_mounted_within_the_registry(machine, real, relay):
    registry, repository = real
    registry.push_blob(repository, BLOB)
    with through(machine, relay) as counted:
        relay.forget()
        assert counted.copy_blob(f"{repository}/copy", Descriptor("", BLOB.digest, BLOB.size), counted, repository)
        assert relay.sent < 10_000
    assert registry.has_blob(f"{repository}/copy", BLOB.digest)
