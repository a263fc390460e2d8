"""Client and worker upload large objects in parts. A fake S3 client records the calls."""

import threading
import time
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.s3.upload import PARALLEL_PARTS, Upload, encryption, part_size

PLACE = {"Bucket": "bucket", "Key": "key"}


class S3:
    """An S3 client that keeps uploaded parts. The operation ``failing`` raises ``error``.

    ``peak`` is the largest number of parts in transfer at one time. Parts wait until ``released`` is set.
    """

    def __init__(self, failing=None, error=None):
        self.failing, self.error = failing, error
        self.calls, self.threads, self.parts = [], set(), {}
        self.sending = self.peak = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.released.set()

    def __getattr__(self, operation):
        def call(**arguments):
            with self.lock:
                self.calls.append((operation, arguments))
            if operation == self.failing:
                raise self.error
            return getattr(self, f"_{operation}", dict)(**arguments)

        if operation.startswith("_"):
            raise AttributeError(operation)
        return call

    def _create_multipart_upload(self, **arguments):
        return {"UploadId": "u"}

    def _upload_part(self, PartNumber, Body, **arguments):  # noqa: N803
        with self.lock:
            self.sending += 1
            self.peak = max(self.peak, self.sending)
            self.threads.add(threading.current_thread())
        self.released.wait(10)
        with self.lock:
            self.sending -= 1
            self.parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    @property
    def names(self):
        return [name for name, _ in self.calls]

    def arguments(self, operation):
        return next(arguments for name, arguments in self.calls if name == operation)


def refusal(code):
    return ClientError({"Error": {"Code": code, "Message": code}}, "operation")


def store(s3, size, **choices):
    with Upload(s3, PLACE, encryption(None), **choices) as upload:
        for start in range(0, size, PART_SIZE // 2):
            upload.write(bytes(min(PART_SIZE // 2, size - start)))
    return upload.size


def test_object_smaller_than_part_takes_one_request():
    s3 = S3()
    assert store(s3, 100) == 100
    assert s3.calls == [("put_object", {**PLACE, "Body": bytes(100)})]


@pytest.mark.parametrize("parallel", [1, PARALLEL_PARTS])
def test_upload_completes_object_from_all_its_parts(parallel):
    s3, size = S3(), 6 * PART_SIZE + 5
    assert store(s3, size, parallel=parallel) == size
    assert Counter(map(len, s3.parts.values())) == {PART_SIZE: 6, 5: 1}
    completed = s3.arguments("complete_multipart_upload")["MultipartUpload"]["Parts"]
    assert completed == [{"PartNumber": n, "ETag": str(n)} for n in range(1, 8)]
    assert s3.names[-1] == "complete_multipart_upload"


def test_lent_bytes_are_sent_from_their_own_memory():
    sent, data = {}, bytearray(bytes(range(256)) * (3 * PART_SIZE // 256))

    def put(name, pieces, headers, query):
        sent[int(query["partNumber"])] = pieces
        return "etag"

    with Upload(S3(), PLACE, encryption(None), put=put) as upload:
        upload.write(b"head")
        upload.lend(data)
        upload.write(b"tail")
    assert b"".join(b"".join(pieces) for _, pieces in sorted(sent.items())) == b"head" + data + b"tail"
    owners = [piece.obj for pieces in sent.values() for piece in pieces if isinstance(piece, memoryview)]
    assert [owner is data for owner in owners] == [True] * 3
    assert upload.size == len(data) + 8


def test_written_bytes_may_change_after_the_call():
    sent, buffer = {}, bytearray(PART_SIZE // 2)

    def put(name, pieces, headers, query):
        sent[int(query["partNumber"])] = pieces
        return "etag"

    with Upload(S3(), PLACE, encryption(None), put=put) as upload:
        for number in range(6):
            buffer[:] = bytes([number]) * len(buffer)
            upload.write(buffer)
    joined = b"".join(b"".join(pieces) for _, pieces in sorted(sent.items()))
    assert joined == b"".join(bytes([number]) * len(buffer) for number in range(6))


def test_boto3_gets_lent_bytes_joined():
    s3, data = S3(), bytes(range(256)) * (3 * PART_SIZE // 256)
    with Upload(s3, PLACE, encryption(None)) as upload:
        upload.write(b"head")
        upload.lend(memoryview(data))
    assert b"".join(body for _, body in sorted(s3.parts.items())) == b"head" + data


def test_upload_sends_limited_number_of_parts_at_once():
    s3 = S3()
    s3.released.clear()

    def release():
        # Threads start late on a busy machine. One thread too many would send its part during the last pause.
        while s3.peak < PARALLEL_PARTS:
            time.sleep(0.01)
        time.sleep(0.3)
        s3.released.set()

    threading.Thread(target=release, daemon=True).start()
    store(s3, 8 * PART_SIZE)
    assert s3.peak == PARALLEL_PARTS
    assert threading.current_thread() not in s3.threads


def test_writing_thread_sends_parts_itself_without_parallelism():
    """A job then holds only one part in memory."""
    s3 = S3()
    store(s3, 3 * PART_SIZE, parallel=1)
    assert s3.threads == {threading.current_thread()}


@pytest.mark.parametrize("failing", ["upload_part", "complete_multipart_upload"])
@pytest.mark.parametrize("parallel", [1, PARALLEL_PARTS])
def test_failed_upload_is_aborted(failing, parallel):
    s3 = S3(failing, refusal("AccessDenied"))
    with pytest.raises(ClientError, match="AccessDenied"):
        store(s3, 3 * PART_SIZE, parallel=parallel)
    assert s3.names[-1] == "abort_multipart_upload"
    assert s3.arguments("abort_multipart_upload") == {**PLACE, "UploadId": "u"}


def test_upload_raises_error_of_writer_if_abort_fails_too():
    s3 = S3("abort_multipart_upload", refusal("InternalError"))

    def fail():
        with Upload(s3, PLACE, encryption(None)) as upload:
            upload.write(bytes(PART_SIZE))
            raise KeyError("writer")

    with pytest.raises(KeyError, match="writer"):
        fail()
    assert "complete_multipart_upload" not in s3.names


@pytest.mark.parametrize(
    ("only_new", "stored", "recognised"),
    [
        (False, 2 * PART_SIZE, True),
        (False, 5, False),
        (False, "403", False),
        (False, "404", False),
        # Another attempt may have stored its object first, perhaps with another size.
        (True, 2 * PART_SIZE, True),
        (True, 5, True),
        (True, "404", False),
    ],
)
def test_upload_recognises_completion_with_lost_answer(only_new, stored, recognised):
    s3 = S3("complete_multipart_upload", refusal("NoSuchUpload"))

    def head(**arguments):
        if isinstance(stored, str):
            raise refusal(stored)
        return {"ContentLength": stored}

    s3._head_object = head
    if recognised:
        assert store(s3, 2 * PART_SIZE, only_new=only_new) == 2 * PART_SIZE
    else:
        with pytest.raises(ClientError, match="NoSuchUpload"):
            store(s3, 2 * PART_SIZE, only_new=only_new)


@pytest.mark.parametrize(("size", "operation"), [(5, "put_object"), (2 * PART_SIZE, "complete_multipart_upload")])
def test_upload_with_only_new_does_not_overwrite_existing_object(size, operation):
    s3 = S3(operation, refusal("PreconditionFailed"))
    with pytest.raises(ClientError, match="PreconditionFailed"):
        store(s3, size, only_new=True)
    assert s3.arguments(operation)["IfNoneMatch"] == "*"
    assert "abort_multipart_upload" in s3.names or size < PART_SIZE


@pytest.mark.parametrize(("size", "operation"), [(5, "put_object"), (2 * PART_SIZE, "create_multipart_upload")])
def test_upload_requests_encryption_when_it_creates_object(size, operation):
    s3 = S3()
    with Upload(s3, PLACE, encryption("aws:kms")) as upload:
        upload.write(bytes(size))
    assert s3.arguments(operation)["ServerSideEncryption"] == "aws:kms"


def test_part_sizes_fit_object_of_5_tib_into_10000_parts():
    # S3 accepts 10,000 parts of 5 MiB to 5 GiB.
    sizes = [part_size(number) for number in range(10_000)]
    assert min(sizes) >= 5 * 2**20
    assert max(sizes) <= 5 * 2**30
    assert sum(sizes) >= 5 * 2**40
