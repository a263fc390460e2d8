"""Uploads that fail: each kind of request, cuts, lost uploads, and two uploads at once."""

import io
import os
import signal
import socket
import threading
import time

import pytest

import cloudknot as ck
from cloudknot.aws.images.registry.client import Blob
from cloudknot.aws.images.registry.manifests import OCI_MANIFEST, digest_of
from cloudknot.aws.images.registry.patience import StoppedTransferError
from tests.helpers.waiting import LONG, until
from tests.integration.registry.conftest import blob_of, client
from tests.integration.registry.server import Fault

CHUNK = 1 << 20
CONTENT = os.urandom(4 * CHUNK + 12345)
BLOB = blob_of(CONTENT)
BUSY = {"status": 503, "headers": {"Retry-After": "0"}}


@pytest.mark.parametrize("kind", ["plain", "ecr", "forgetful"])
def test_large_blob_arrives_in_chunks(start, kind):
    server, registry = start(kind, chunk=CHUNK)
    sent = []
    assert registry.push_blob("x", BLOB, sent.append)
    assert server.blobs["x", BLOB.digest] == CONTENT
    assert (server.count("POST"), server.count("PATCH"), server.count("PUT")) == (1, 5, 1)
    ranges = [headers["Content-Range"] for method, _, headers in server.requests if method == "PATCH"]
    assert ranges[0] == "0-1048575"
    assert ranges[-1] == f"{4 * CHUNK}-{len(CONTENT) - 1}"
    assert sum(sent) == server.received == len(CONTENT)


@pytest.mark.parametrize(("least", "chunks"), [(str(2 * CHUNK), 3), ("5", 5), ("many", 5)])
def test_registry_may_demand_larger_chunks(start, least, chunks):
    server, registry = start(chunk=CHUNK)
    server.least_chunk = least
    assert registry.push_blob("x", BLOB)
    assert server.count("PATCH") == chunks


def test_small_blob_takes_three_requests_and_known_blob_one(start):
    server, registry = start()
    assert registry.push_blob("x", BLOB)
    assert [method for method, _, _ in server.requests] == ["HEAD", "POST", "PUT"]
    assert not registry.push_blob("x", BLOB)
    assert [method for method, _, _ in server.requests[3:]] == ["HEAD"]


def test_blob_of_another_repository_is_mounted_without_sending_it(start):
    server, registry = start()
    server.add("x", CONTENT)
    assert registry.push_blob("y", BLOB, mount_from="x")
    assert server.received == 0
    assert server.blobs["y", BLOB.digest] == CONTENT


@pytest.mark.parametrize("refusal", [Fault("POST", "mount=", status=403, body=b"{}"), Fault("POST", "x", status=405)])
def test_blob_is_sent_if_the_registry_does_not_mount_it(start, refusal):
    server, registry = start()
    server.add("x", CONTENT)
    server.faults.append(refusal)
    assert registry.push_blob("y", BLOB, mount_from="x")
    assert server.received == len(CONTENT)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_each_request_of_an_upload_is_repeated_after_a_temporary_failure(start, method, status):
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault(method, times=2, status=status, headers={"Retry-After": "0"}))
    assert registry.push_blob("x", BLOB)
    assert server.blobs["x", BLOB.digest] == CONTENT
    # A busy registry has not lost what arrived before.
    assert server.received == len(CONTENT)


@pytest.mark.parametrize("kind", ["plain", "ecr"])
def test_cut_upload_goes_on_where_the_registry_stands(start, kind):
    server, registry = start(kind, chunk=CHUNK)
    # The third chunk breaks in its middle.
    server.faults += [Fault("PATCH", f"state={2 * CHUNK}", after=CHUNK // 2)]
    sent = []
    assert registry.push_blob("x", BLOB, sent.append)
    assert server.blobs["x", BLOB.digest] == CONTENT
    assert server.count("POST") == 1
    assert server.received - len(CONTENT) <= (CHUNK if kind == "ecr" else 0)
    assert sum(sent) == len(CONTENT)


def test_upload_goes_on_after_its_first_byte(start):
    """The registry writes "0-0" for one byte and for none."""
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault("PATCH", "state=0", after=1))
    assert registry.push_blob("x", BLOB)
    assert server.blobs["x", BLOB.digest] == CONTENT
    assert server.count("POST") == 1


def test_chunk_whose_answer_is_lost_is_not_sent_again(start):
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault("PATCH", f"state={CHUNK}", done=True))
    assert registry.push_blob("x", BLOB)
    assert server.received == len(CONTENT)


def test_blob_whose_last_answer_is_lost_is_found_and_not_sent_again(start):
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault("PUT", done=True))
    assert registry.push_blob("x", BLOB)
    assert server.received == len(CONTENT)
    assert server.count("POST") == 1


def test_upload_begins_anew_at_a_registry_that_cancels_a_cut_one(start):
    server, registry = start("forgetful", chunk=CHUNK)
    server.faults.append(Fault("PATCH", f"state={2 * CHUNK}", after=CHUNK // 2))
    sent = []
    assert registry.push_blob("x", BLOB, sent.append)
    assert server.blobs["x", BLOB.digest] == CONTENT
    assert server.count("POST") == 2
    assert sum(sent) == len(CONTENT)


def test_upload_begins_anew_after_the_registry_has_lost_it(start):
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault("PATCH", f"state={3 * CHUNK}", status=404))
    assert registry.push_blob("x", BLOB)
    assert server.count("POST") == 2


def test_upload_ends_with_an_error_at_a_registry_that_always_loses_it(start):
    server, registry = start(chunk=CHUNK)
    server.faults.append(Fault("PATCH", f"state={CHUNK}", times=100, status=404))
    with pytest.raises(ck.CloudError, match="returned HTTP 404"):
        registry.push_blob("x", BLOB)
    assert server.count("POST") <= 8


def test_upload_succeeds_although_every_answer_about_its_content_is_lost(start):
    server, registry = start(chunk=CHUNK)
    server.faults += [Fault("PATCH", times=100, done=True), Fault("PUT", times=100, done=True)]
    assert registry.push_blob("x", BLOB)
    assert server.received == len(CONTENT)


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 429, "headers": {"Retry-After": "3600"}}, {}],
    ids=["busy", "busy for an hour", "broken"],
)
@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_upload_that_makes_no_progress_ends_with_an_error(start, method, fault):
    server, registry = start(patience=1.0, chunk=CHUNK)
    server.faults.append(Fault(method, times=1000, **fault))
    began = time.monotonic()
    with pytest.raises(ck.CloudError, match=r"\. (Start|Try again|Wait)") as caught:
        registry.push_blob("x", BLOB)
    assert server.address in str(caught.value)
    assert time.monotonic() - began < LONG
    assert ("x", BLOB.digest) not in server.blobs


def test_silent_registry_ends_with_an_error():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            client(address, timeout=0.5, patience=1) as registry,
            pytest.raises(ck.CloudError, match=f"^The registry {address} does not answer: it sends nothing any more"),
        ):
            registry.has_blob("x", BLOB.digest)


def test_wrong_digest_is_refused_once(start):
    server, registry = start(chunk=CHUNK)
    wrong = Blob(digest_of(b"other"), len(CONTENT), lambda: io.BytesIO(CONTENT))
    with pytest.raises(ck.errors.ImageError, match="received other bytes"):
        registry.push_blob("x", wrong)
    assert server.count("POST") == 1


def test_source_that_ends_too_early_is_an_error(start):
    _, registry = start(chunk=CHUNK)
    short = Blob(BLOB.digest, len(CONTENT), lambda: io.BytesIO(CONTENT[:-1]))
    with pytest.raises(ck.errors.ImageError, match="was changed while it was uploaded"):
        registry.push_blob("x", short)


def test_two_sessions_upload_the_same_blob_at_once(start):
    server, registry = start(chunk=CHUNK)
    barrier = threading.Barrier(2)

    def opened():
        # Both have seen that the blob is missing before one of them sends it.
        barrier.wait(LONG)
        return io.BytesIO(CONTENT)

    blob = Blob(BLOB.digest, BLOB.size, opened)
    results = []
    with client(server.address, chunk=CHUNK) as other:
        threads = [
            threading.Thread(target=lambda r=r: results.append(r.push_blob("x", blob))) for r in (registry, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert results == [True, True]
    assert server.blobs["x", BLOB.digest] == CONTENT


def test_several_blobs_are_sent_at_once_and_the_first_error_stops_the_others(start):
    server, registry = start(chunk=CHUNK)
    blobs = [blob_of(os.urandom(3 * CHUNK)) for _ in range(6)]
    sent = []
    registry.push_blobs("x", blobs, sent.append)
    assert all(("x", blob.digest) in server.blobs for blob in blobs)
    assert sum(sent) == sum(blob.size for blob in blobs)
    server.faults.append(Fault("PATCH", "/y/", status=400, times=1000, body=b'{"errors":[{"code":"DENIED"}]}'))
    slow = [Fault("HEAD", blob.digest, status=403, times=1) for blob in blobs[:1]]
    server.faults += slow
    with pytest.raises(ck.CloudError):
        registry.push_blobs("y", blobs)
    # Each blob is begun anew a few times at most.
    assert server.count("PATCH", "/y/") < 6 * 8


def test_manifest_is_stored_and_its_digest_checked(start):
    server, registry = start()
    body = b'{"schemaVersion":2}'
    server.faults += [Fault("PUT", "manifests", **BUSY), Fault("PUT", "manifests")]
    assert registry.put_manifest("x", "v1", OCI_MANIFEST, body) == digest_of(body)
    found = registry.manifest("x", "v1")
    assert (found.digest, found.media_type, found.body) == (digest_of(body), OCI_MANIFEST, body)
    wrong = {"Docker-Content-Digest": digest_of(b"other")}
    server.faults.append(Fault("PUT", "manifests", status=201, headers=wrong))
    with pytest.raises(ck.errors.ImageError, match="stored the manifest v1 of x"):
        registry.put_manifest("x", "v1", OCI_MANIFEST, body)


def test_manifest_that_registry_confuses_with_one_of_another_session_is_sent_again(start):
    server, registry = start()
    body = b'{"schemaVersion":2}'
    confused = b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}'
    server.faults.append(Fault("PUT", "manifests", times=2, status=400, body=confused))
    assert registry.put_manifest("x", "v1", OCI_MANIFEST, body) == digest_of(body)
    server.faults.append(Fault("PUT", "manifests", times=100, status=400, body=confused))
    with pytest.raises(ck.CloudError, match="did not match uploaded content"):
        registry.put_manifest("x", "v2", OCI_MANIFEST, body)
    assert server.count("PUT", "manifests/v2") == 4


def test_immutable_tag_that_has_the_image_already_is_no_error(start):
    server, registry = start()
    body = b'{"schemaVersion":2}'
    registry.put_manifest("x", "v1", OCI_MANIFEST, body)
    refusal = b'{"errors":[{"code":"TAG_INVALID","message":"The image tag v1 already exists"}]}'
    server.faults.append(Fault("PUT", "manifests", times=2, status=400, body=refusal))
    assert registry.put_manifest("x", "v1", OCI_MANIFEST, body) == digest_of(body)
    with pytest.raises(ck.errors.ResourceExistsException, match="already exists"):
        registry.put_manifest("x", "v1", OCI_MANIFEST, body + b" ")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_interrupt_ends_all_uploads_at_once(start, method):
    server, registry = start(timeout=2 * LONG, chunk=CHUNK)
    blobs = [blob_of(os.urandom(2 * CHUNK)) for _ in range(3)]
    # The registry stops to answer.
    server.faults.append(Fault(method, times=100, wait=2 * LONG))

    def interrupt():
        until(lambda: server.count(method))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    person = threading.Thread(target=interrupt)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        person.start()
        registry.push_blobs("x", blobs)
    person.join()
    assert time.monotonic() - began < LONG
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cloudknot-blob")]
    server.faults.clear()
    registry.push_blobs("x", blobs)
    assert all(("x", blob.digest) in server.blobs for blob in blobs)


def test_error_in_the_caller_ends_transfers_in_other_threads(start):
    server, _ = start()
    server.faults.append(Fault("PATCH", times=100, wait=2 * LONG))
    ends = []

    def push(registry):
        with pytest.raises(StoppedTransferError):
            registry.push_blob("x", BLOB)
        ends.append(time.monotonic())

    with pytest.raises(ZeroDivisionError), client(server.address, timeout=2 * LONG, chunk=CHUNK) as registry:  # noqa: PT012
        thread = threading.Thread(target=push, args=(registry,))
        thread.start()
        until(lambda: server.count("PATCH"))
        raise ZeroDivisionError
    thread.join(LONG)
    assert len(ends) == 1
