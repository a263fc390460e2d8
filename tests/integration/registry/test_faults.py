"""Any few failures in any order: a transfer succeeds, and its content is right."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.aws.images.registry import patience
from cloudknot.aws.images.registry.manifests import Descriptor, digest_of
from tests.integration.registry.conftest import blob_of, client
from tests.integration.registry.server import Fault, RegistryServer

CHUNK = 1 << 16
CONTENT = os.urandom(5 * CHUNK + 321)
BLOB = blob_of(CONTENT)
FAULTS = st.lists(
    st.builds(
        Fault,
        method=st.sampled_from(["HEAD", "POST", "PATCH", "PUT", "GET"]),
        path=st.sampled_from(["", "uploads", "state=0", f"state={2 * CHUNK}", "digest="]),
        times=st.integers(1, 2),
        status=st.sampled_from([0, 0, 429, 500, 503]),
        after=st.sampled_from([0, 1, CHUNK // 2, CHUNK - 1]),
        done=st.booleans(),
    ),
    max_size=4,
)


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.002)


@given(kind=st.sampled_from(["plain", "ecr", "forgetful"]), faults=FAULTS)
def test_upload_survives_any_few_failures(short_waits, kind, faults):
    with RegistryServer(kind) as server, client(server.address, chunk=CHUNK) as registry:
        server.faults += faults
        sent = []
        registry.push_blob("x", BLOB, sent.append)
        server.faults.clear()
        assert server.blobs["x", BLOB.digest] == CONTENT
        assert sum(sent) in (0, len(CONTENT))


@given(source_faults=FAULTS, faults=FAULTS)
def test_copy_survives_any_few_failures(short_waits, source_faults, faults):
    with (
        RegistryServer() as source_server,
        RegistryServer() as server,
        client(source_server.address) as source,
        client(server.address, chunk=CHUNK) as registry,
    ):
        source_server.add("base", CONTENT)
        source_server.faults += source_faults
        server.faults += faults
        registry.copy_blob("x", Descriptor("", BLOB.digest, BLOB.size), source, "base")
        assert server.blobs["x", digest_of(CONTENT)] == CONTENT


@given(faults=FAULTS, pieces=st.lists(st.integers(1, 2 * CHUNK), max_size=5))
def test_download_survives_any_few_failures(short_waits, faults, pieces):
    with RegistryServer() as server, client(server.address) as registry:
        server.add("x", CONTENT)
        server.faults += faults
        target = io.BytesIO()
        with registry.open_blob("x", BLOB.digest, BLOB.size) as stream:
            for piece in pieces:
                target.write(stream.read(piece))
            target.write(stream.read())
        assert target.getvalue() == CONTENT
