"""The bucket's objects, with a door that answers as S3 would where the embedded cloud's S3 does not."""

from datetime import UTC, datetime

import pytest

from cloudknot.aws.s3.storage import Storage
from cloudknot.errors import CloudError, ResourceDoesNotExistException
from cloudknot.worker.s3.limits import PART_SIZE


class ForgetfulDoor:
    """An S3 that has completed an upload, lost the answer, and knows the upload no more."""

    def __init__(self, size):
        self.size, self.calls = size, []

    def call(self, service, operation, **arguments):
        self.calls.append(operation)
        if operation == "complete_multipart_upload":
            raise CloudError("AWS refused it: NoSuchUpload", code="NoSuchUpload", operation=operation)
        if operation == "head_object" and self.size is None:
            raise ResourceDoesNotExistException("404", code="404", operation=operation)
        return {"UploadId": "u", "ETag": '"e"', "ContentLength": self.size}


def test_a_completion_that_was_carried_out_before_is_recognised_by_the_object():
    door = ForgetfulDoor(2 * PART_SIZE)
    assert Storage(door, "bucket", "us-east-1").upload("key", [b"x" * PART_SIZE] * 2) == 2 * PART_SIZE
    assert door.calls[-2:] == ["complete_multipart_upload", "head_object"]


@pytest.mark.parametrize("size", [None, 5])
def test_an_upload_that_is_unknown_and_left_no_such_object_is_an_error(size):
    with pytest.raises(CloudError, match="NoSuchUpload"):
        Storage(ForgetfulDoor(size), "bucket", "us-east-1").upload("key", [b"x" * PART_SIZE] * 2)


class UndeletingDoor:
    """An S3 that deletes all but one of many, and says so in its answer."""

    def __init__(self):
        self.deleted = []

    def pages(self, service, operation, **arguments):
        yield {"Contents": [{"Key": f"p/{n}", "Size": 1, "LastModified": datetime.now(UTC)} for n in range(3)]}

    def call(self, service, operation, **arguments):
        if operation == "delete_objects":
            return {"Errors": [{"Key": "p/1", "Code": "InternalError"}]}
        self.deleted.append(arguments["Key"])
        return {}


def test_what_s3_did_not_delete_among_many_is_deleted_alone():
    door = UndeletingDoor()
    Storage(door, "bucket", "us-east-1").delete_prefix("p/")
    assert door.deleted == ["p/1"]
