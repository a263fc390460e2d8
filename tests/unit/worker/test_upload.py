"""An upload in parts, as the client and the worker make it."""

import threading
import time
from collections import Counter

import pytest
from botocore.exceptions import ClientError

from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.s3.upload import PARALLEL_PARTS, Upload, encryption, part_size

PLACE = {"Bucket": "bucket", "Key": "key"}


class S3:
    """Takes parts; ``failing`` is the operation that fails."""

    def __init__(self, failing=None, error=None):
        self.failing, self.error = failing, error
        self.calls, self.threads, self.parts = [], set(), {}
        self.at_once = self.most = 0
        self.lock = threading.Lock()
        self.held = threading.Event()
        self.held.set()

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
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.threads.add(threading.current_thread())
        self.held.wait(10)
        with self.lock:
            self.at_once -= 1
            self.parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    @property
    def names(self):
        return [name for name, _ in self.calls]

    def arguments(self, operation):
        return next(arguments for name, arguments in self.calls if name == operation)


def refused(code):
    return ClientError({"Error": {"Code": code, "Message": code}}, "operation")


def store(s3, size, **choices):
    with Upload(s3, PLACE, encryption(None), **choices) as upload:
        for start in range(0, size, PART_SIZE // 2):
            upload.write(bytes(min(PART_SIZE // 2, size - start)))
    return upload.size


def test_what_is_less_than_a_part_is_one_request():
    s3 = S3()
    assert store(s3, 100) == 100
    assert s3.calls == [("put_object", {**PLACE, "Body": bytes(100)})]


@pytest.mark.parametrize("parallel", [1, PARALLEL_PARTS])
def test_parts_make_the_whole(parallel):
    s3, size = S3(), 6 * PART_SIZE + 5
    assert store(s3, size, parallel=parallel) == size
    assert Counter(map(len, s3.parts.values())) == {PART_SIZE: 6, 5: 1}
    completed = s3.arguments("complete_multipart_upload")["MultipartUpload"]["Parts"]
    assert completed == [{"PartNumber": n, "ETag": str(n)} for n in range(1, 8)]
    assert s3.names[-1] == "complete_multipart_upload"


def test_no_more_parts_are_sent_at_once_than_are_to_be():
    s3 = S3()
    s3.held.clear()

    def release():
        # On a busy machine, threads take their time to start. A further part would be sent within the last pause.
        while s3.most < PARALLEL_PARTS:
            time.sleep(0.01)
        time.sleep(0.3)
        s3.held.set()

    threading.Thread(target=release, daemon=True).start()
    store(s3, 8 * PART_SIZE)
    assert s3.most == PARALLEL_PARTS
    assert threading.current_thread() not in s3.threads


def test_one_at_once_is_sent_by_the_writer():
    """So that a job holds no more than one part."""
    s3 = S3()
    store(s3, 3 * PART_SIZE, parallel=1)
    assert s3.threads == {threading.current_thread()}


@pytest.mark.parametrize("failing", ["upload_part", "complete_multipart_upload"])
@pytest.mark.parametrize("parallel", [1, PARALLEL_PARTS])
def test_of_what_fails_no_part_stays(failing, parallel):
    s3 = S3(failing, refused("AccessDenied"))
    with pytest.raises(ClientError, match="AccessDenied"):
        store(s3, 3 * PART_SIZE, parallel=parallel)
    assert s3.names[-1] == "abort_multipart_upload"
    assert s3.arguments("abort_multipart_upload") == {**PLACE, "UploadId": "u"}


def test_the_error_is_that_of_the_writer_when_the_abort_fails_too():
    s3 = S3("abort_multipart_upload", refused("InternalError"))

    def fail():
        with Upload(s3, PLACE, encryption(None)) as upload:
            upload.write(bytes(PART_SIZE))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert "complete_multipart_upload" not in s3.names


@pytest.mark.parametrize(
    ("only_new", "stored", "found"),
    [
        (False, 2 * PART_SIZE, True),
        (False, 5, False),
        (False, "403", False),
        (False, "404", False),
        # Another attempt may have stored its object first, perhaps of another size.
        (True, 2 * PART_SIZE, True),
        (True, 5, True),
        (True, "404", False),
    ],
)
def test_a_completion_whose_answer_was_lost_is_recognised(only_new, stored, found):
    s3 = S3("complete_multipart_upload", refused("NoSuchUpload"))

    def head(**arguments):
        if isinstance(stored, str):
            raise refused(stored)
        return {"ContentLength": stored}

    s3._head_object = head
    if found:
        assert store(s3, 2 * PART_SIZE, only_new=only_new) == 2 * PART_SIZE
    else:
        with pytest.raises(ClientError, match="NoSuchUpload"):
            store(s3, 2 * PART_SIZE, only_new=only_new)


@pytest.mark.parametrize(("size", "operation"), [(5, "put_object"), (2 * PART_SIZE, "complete_multipart_upload")])
def test_an_object_that_is_there_may_be_left_as_it_is(size, operation):
    s3 = S3(operation, refused("PreconditionFailed"))
    with pytest.raises(ClientError, match="PreconditionFailed"):
        store(s3, size, only_new=True)
    assert s3.arguments(operation)["IfNoneMatch"] == "*"
    assert "abort_multipart_upload" in s3.names or size < PART_SIZE


@pytest.mark.parametrize(("size", "operation"), [(5, "put_object"), (2 * PART_SIZE, "create_multipart_upload")])
def test_encryption_is_asked_for_where_the_object_begins(size, operation):
    s3 = S3()
    with Upload(s3, PLACE, encryption("aws:kms")) as upload:
        upload.write(bytes(size))
    assert s3.arguments(operation)["ServerSideEncryption"] == "aws:kms"


def test_ten_thousand_parts_are_the_largest_object_of_s3():
    sizes = [part_size(number) for number in range(10_000)]
    assert min(sizes) >= 5 * 2**20
    assert max(sizes) <= 5 * 2**30
    assert sum(sizes) >= 5 * 2**40
