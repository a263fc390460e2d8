"""The layer in front of moto's S3 gives the answers that S3 gives, and leaves all other requests to moto."""

import os
import threading

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError


@pytest.fixture(scope="module", params=["when_required", "when_supported"])
def s3(embedded, request):
    """Return a client. The layer answers the objects of one without checksums, and moto most of those with them."""
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation=request.param,
        response_checksum_validation=request.param,
    )
    client = embedded.door.session().create_client("s3", endpoint_url=embedded.endpoint_url, config=config)
    client.create_bucket(Bucket="plain")
    yield client
    for key in client.list_objects_v2(Bucket="plain")["Contents"]:
        client.delete_object(Bucket="plain", Key=key["Key"])


@pytest.fixture(params=[{}, {"ContentType": "text/x-data", "Metadata": {"a": "b"}}], ids=["plain", "attributes"])
def stored(s3, request):
    data = os.urandom(1000)
    s3.put_object(Bucket="plain", Key="data", Body=data, **request.param)
    return data


def code(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


class TestObjects:
    def test_object_has_its_content_and_attributes(self, s3, stored):
        answer = s3.get_object(Bucket="plain", Key="data")
        head = s3.head_object(Bucket="plain", Key="data")
        assert answer["Body"].read() == stored
        for name in ("ContentLength", "ETag", "ContentType", "Metadata", "LastModified", "AcceptRanges"):
            assert answer[name] == head[name]

    @pytest.mark.parametrize(
        ("wanted", "begin", "end"), [("0-0", 0, 1), ("10-19", 10, 20), ("990-", 990, 1000), ("990-5000", 990, 1000)]
    )
    def test_range_has_its_bytes(self, s3, stored, wanted, begin, end):
        answer = s3.get_object(Bucket="plain", Key="data", Range=f"bytes={wanted}")
        assert answer["Body"].read() == stored[begin:end]
        assert answer["ContentRange"] == f"bytes {begin}-{end - 1}/1000"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206

    def test_last_bytes_have_their_range(self, s3, stored):
        assert s3.get_object(Bucket="plain", Key="data", Range="bytes=-10")["Body"].read() == stored[-10:]

    def test_range_behind_end_is_refused(self, s3, stored):
        assert code(lambda: s3.get_object(Bucket="plain", Key="data", Range="bytes=1000-1009")) == "InvalidRange"

    def test_missing_object_and_bucket_are_reported(self, s3):
        assert code(lambda: s3.get_object(Bucket="plain", Key="nothing")) == "NoSuchKey"
        assert code(lambda: s3.get_object(Bucket="no-such-bucket-here", Key="x")) == "NoSuchBucket"

    def test_condition_on_content_is_obeyed(self, s3, stored):
        etag = s3.head_object(Bucket="plain", Key="data")["ETag"]
        assert code(lambda: s3.get_object(Bucket="plain", Key="data", IfNoneMatch=etag)) == "304"

    def test_one_of_many_conditional_writes_succeeds(self, s3):
        outcomes = []

        def write(number):
            try:
                s3.put_object(Bucket="plain", Key="once", Body=str(number).encode(), IfNoneMatch="*")
                outcomes.append(number)
            except ClientError as error:
                outcomes.append(error.response["Error"]["Code"])

        threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (outcome for outcome in outcomes if isinstance(outcome, int))
        assert outcomes.count("PreconditionFailed") == 7
        assert s3.get_object(Bucket="plain", Key="once")["Body"].read() == str(winner).encode()

    def test_overwritten_object_loses_its_tags(self, s3):
        s3.put_object(Bucket="plain", Key="tagged", Body=b"1", Tagging="a=b")
        s3.put_object(Bucket="plain", Key="tagged", Body=b"2")
        assert s3.get_object_tagging(Bucket="plain", Key="tagged")["TagSet"] == []

    def test_versions_of_object_are_kept(self, s3):
        s3.create_bucket(Bucket="versions")
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        first, second = (s3.put_object(Bucket="versions", Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
        assert s3.get_object(Bucket="versions", Key="k", VersionId=first)["Body"].read() == b"1"
        assert s3.get_object(Bucket="versions", Key="k")["VersionId"] == second


class TestListing:
    KEYS = ("list/a b", "list/a&b", "list/é", "list/plus+", "list/z/1", "list/z/2")

    @pytest.fixture
    def listed(self, s3):
        for key in (*self.KEYS, "other"):
            s3.put_object(Bucket="plain", Key=key, Body=key.encode())

    def test_pages_join_to_all_keys_in_order(self, s3, listed):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket="plain", Prefix="list/", PaginationConfig={"PageSize": 4}
        )
        pages = list(pages)
        assert [page["KeyCount"] for page in pages] == [4, 2]
        assert [item["Key"] for page in pages for item in page["Contents"]] == sorted(self.KEYS, key=str.encode)

    def test_entry_has_attributes_of_its_object(self, s3, listed):
        (entry,) = s3.list_objects_v2(Bucket="plain", Prefix="list/é")["Contents"]
        head = s3.head_object(Bucket="plain", Key="list/é")
        assert (entry["Size"], entry["ETag"]) == (head["ContentLength"], head["ETag"])
        assert entry["LastModified"] == head["LastModified"]

    def test_listing_starts_after_key(self, s3, listed):
        answer = s3.list_objects_v2(Bucket="plain", Prefix="list/", StartAfter="list/z/1")
        assert [item["Key"] for item in answer["Contents"]] == ["list/z/2", "list/é"]

    def test_delimiter_groups_keys(self, s3, listed):
        answer = s3.list_objects_v2(Bucket="plain", Prefix="list/z", Delimiter="/")
        assert [group["Prefix"] for group in answer["CommonPrefixes"]] == ["list/z/"]

    def test_empty_listing_has_no_entries(self, s3):
        answer = s3.list_objects_v2(Bucket="plain", Prefix="nothing/")
        assert answer["KeyCount"] == 0
        assert "Contents" not in answer
