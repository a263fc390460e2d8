"""`Storage` handles rare answers of S3. Fake doors give them, since the embedded cloud's S3 does not."""

from datetime import UTC, datetime

import pytest

from cloudknot.aws.s3.storage import Storage
from cloudknot.errors import CloudError, ResourceDoesNotExistException
from cloudknot.worker.s3.limits import PART_SIZE


class ForgetfulDoor:
    """A fake S3 that completed an upload and forgot it. The client never got the answer."""

    def __init__(self, size):
        self.size, self.calls = size, []

    def call(self, service, operation, **arguments):
        self.calls.append(operation)
        if operation == "complete_multipart_upload":
            raise CloudError("AWS refused it: NoSuchUpload", code="NoSuchUpload", operation=operation)
        if operation == "head_object" and self.size is None:
            raise ResourceDoesNotExistException("404", code="404", operation=operation)
        return {"UploadId": "u", "ETag": '"e"', "ContentLength": self.size}

    def put_quickly(self, bucket, key, body, headers, query):
        return None  # not certain of an answer, so the caller asks once more by `call`


def test_upload_accepts_lost_completion_if_object_exists():
    door = ForgetfulDoor(2 * PART_SIZE)
    assert Storage(door, "bucket", "us-east-1").upload("key", [b"x" * PART_SIZE] * 2) == 2 * PART_SIZE
    assert door.calls[-2:] == ["complete_multipart_upload", "head_object"]


@pytest.mark.parametrize("size", [None, 5], ids=["no object", "object of another size"])
def test_upload_raises_if_completion_left_no_object_of_its_size(size):
    with pytest.raises(CloudError, match="NoSuchUpload"):
        Storage(ForgetfulDoor(size), "bucket", "us-east-1").upload("key", [b"x" * PART_SIZE] * 2)


class UndeletingDoor:
    """A fake S3 that deletes all keys but one, and reports it in a successful response."""

    def __init__(self):
        self.deleted = []

    def pages(self, service, operation, **arguments):
        yield {
            "Contents": [{"Key": f"p/{number}", "Size": 1, "LastModified": datetime.now(UTC)} for number in range(3)]
        }

    def call(self, service, operation, **arguments):
        if operation == "delete_objects":
            return {"Errors": [{"Key": "p/1", "Code": "InternalError"}]}
        self.deleted.append(arguments["Key"])
        return {}


def test_delete_prefix_deletes_refused_keys_one_by_one():
    door = UndeletingDoor()
    Storage(door, "bucket", "us-east-1").delete_prefix("p/")
    assert door.deleted == ["p/1"]
