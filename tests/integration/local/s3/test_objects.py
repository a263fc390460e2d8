"""Objects and listings have the properties that the Amazon S3 API reference gives them."""

import base64
import hashlib
import os
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError

import pytest
from botocore.exceptions import ClientError

from tests.integration.local.s3.conftest import client_of, code, new_bucket

PART = 5 * 1024 * 1024


@pytest.fixture(params=[{}, {"ContentType": "text/x-data", "Metadata": {"a": "b"}}], ids=["plain", "attributes"])
def stored(s3, bucket, request):
    data = os.urandom(1000)
    s3.put_object(Bucket=bucket, Key="data", Body=data, **request.param)
    return data


class TestObjects:
    def test_object_has_its_content_and_attributes(self, s3, bucket, stored):
        answer = s3.get_object(Bucket=bucket, Key="data")
        head = s3.head_object(Bucket=bucket, Key="data")
        assert answer["Body"].read() == stored
        for name in ("ContentLength", "ETag", "ContentType", "Metadata", "LastModified", "AcceptRanges"):
            assert answer[name] == head[name]

    @pytest.mark.parametrize(
        ("wanted", "begin", "end"), [("0-0", 0, 1), ("10-19", 10, 20), ("990-", 990, 1000), ("990-5000", 990, 1000)]
    )
    def test_range_has_its_bytes(self, s3, bucket, stored, wanted, begin, end):
        answer = s3.get_object(Bucket=bucket, Key="data", Range=f"bytes={wanted}")
        assert answer["Body"].read() == stored[begin:end]
        assert answer["ContentRange"] == f"bytes {begin}-{end - 1}/1000"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206

    def test_last_bytes_have_their_range(self, s3, bucket, stored):
        assert s3.get_object(Bucket=bucket, Key="data", Range="bytes=-10")["Body"].read() == stored[-10:]

    def test_range_behind_end_is_refused(self, s3, bucket, stored):
        assert code(s3.get_object, Bucket=bucket, Key="data", Range="bytes=1000-1009") == "InvalidRange"

    def test_missing_object_and_bucket_are_reported(self, s3, bucket):
        assert code(s3.get_object, Bucket=bucket, Key="nothing") == "NoSuchKey"
        assert code(s3.get_object, Bucket="no-such-bucket-here", Key="x") == "NoSuchBucket"

    def test_condition_on_content_is_obeyed(self, s3, bucket, stored):
        etag = s3.head_object(Bucket=bucket, Key="data")["ETag"]
        assert code(s3.get_object, Bucket=bucket, Key="data", IfNoneMatch=etag) == "304"

    def test_one_of_many_conditional_writes_succeeds(self, s3, bucket):
        outcomes = []
        s3.delete_object(Bucket=bucket, Key="once")

        def write(number):
            try:
                s3.put_object(Bucket=bucket, Key="once", Body=str(number).encode(), IfNoneMatch="*")
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
        assert s3.get_object(Bucket=bucket, Key="once")["Body"].read() == str(winner).encode()

    def test_overwritten_object_loses_its_tags(self, s3, bucket):
        s3.put_object(Bucket=bucket, Key="tagged", Body=b"1", Tagging="a=b")
        s3.put_object(Bucket=bucket, Key="tagged", Body=b"2")
        assert s3.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"] == []

    def test_versions_of_object_are_kept(self, s3, versioned):
        first, second = (s3.put_object(Bucket=versioned, Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
        assert s3.get_object(Bucket=versioned, Key="k", VersionId=first)["Body"].read() == b"1"
        assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == second

    def test_names_of_metadata_stay_in_lower_case(self, s3, bucket):
        s3.put_object(Bucket=bucket, Key="meta", Body=b"", Metadata={"Some-Name": "Value", "x": "y z"})
        assert s3.head_object(Bucket=bucket, Key="meta")["Metadata"] == {"some-name": "Value", "x": "y z"}


class TestListing:
    KEYS = ("list/a b", "list/a&b", "list/é", "list/plus+", "list/z/1", "list/z/2")

    @pytest.fixture
    def listed(self, s3, bucket):
        for key in (*self.KEYS, "other"):
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    def test_pages_join_to_all_keys_in_order(self, s3, bucket, listed):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix="list/", PaginationConfig={"PageSize": 4}
        )
        pages = list(pages)
        assert [page["KeyCount"] for page in pages] == [4, 2]
        assert [item["Key"] for page in pages for item in page["Contents"]] == sorted(self.KEYS, key=str.encode)

    def test_entry_has_attributes_of_its_object(self, s3, bucket, listed):
        (entry,) = s3.list_objects_v2(Bucket=bucket, Prefix="list/é")["Contents"]
        head = s3.head_object(Bucket=bucket, Key="list/é")
        assert (entry["Size"], entry["ETag"]) == (head["ContentLength"], head["ETag"])
        assert entry["LastModified"] == head["LastModified"]

    def test_listing_starts_after_key(self, s3, bucket, listed):
        answer = s3.list_objects_v2(Bucket=bucket, Prefix="list/", StartAfter="list/z/1")
        assert [item["Key"] for item in answer["Contents"]] == ["list/z/2", "list/é"]

    def test_delimiter_groups_keys(self, s3, bucket, listed):
        answer = s3.list_objects_v2(Bucket=bucket, Prefix="list/z", Delimiter="/")
        assert [group["Prefix"] for group in answer["CommonPrefixes"]] == ["list/z/"]

    def test_empty_listing_has_no_entries(self, s3, bucket):
        answer = s3.list_objects_v2(Bucket=bucket, Prefix="nothing/")
        assert answer["KeyCount"] == 0
        assert "Contents" not in answer


class TestPresignedUrls:
    def test_url_serves_its_object_to_everybody(self, embedded, bucket, stored):
        client = client_of(embedded, signature_version="s3v4")
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "data"})
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == stored
        with pytest.raises(HTTPError) as caught:
            urllib.request.urlopen(url.replace("/data?", "/other?"))
        with caught.value as answer:
            assert answer.code == 403

    def test_url_of_old_signature_is_refused_with_the_way_to_a_new_one(self, embedded, bucket, stored):
        # boto3's choice for URLs of us-east-1.
        url = client_of(embedded).generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "data"})
        with pytest.raises(HTTPError) as caught:
            urllib.request.urlopen(url)
        with caught.value as answer:
            text = answer.read().decode()
        assert "<Code>InvalidRequest</Code>" in text
        assert 'signature_version="s3v4"' in text


class TestConditions:
    @pytest.fixture
    def head(self, plain, bucket):
        plain.put_object(Bucket=bucket, Key="c", Body=b"content")
        return plain.head_object(Bucket=bucket, Key="c")

    def test_read_with_condition_on_time_is_answered_by_it(self, plain, bucket, head):
        before, at = head["LastModified"] - timedelta(days=1), head["LastModified"]
        get = {"Bucket": bucket, "Key": "c"}
        assert plain.get_object(**get, IfModifiedSince=before)["Body"].read() == b"content"
        assert code(plain.get_object, **get, IfModifiedSince=at) == "304"
        assert plain.get_object(**get, IfUnmodifiedSince=at)["Body"].read() == b"content"
        assert code(plain.get_object, **get, IfUnmodifiedSince=before) == "PreconditionFailed"
        # RFC 9110: a condition on the tag overrides the one on the time.
        assert plain.get_object(**get, IfMatch=head["ETag"], IfUnmodifiedSince=before)["Body"].read() == b"content"
        assert plain.get_object(**get, IfNoneMatch='"x"', IfModifiedSince=at)["Body"].read() == b"content"
        assert code(plain.head_object, **get, IfMatch='"x"') == "412"

    def test_object_is_replaced_only_if_it_has_the_tag(self, plain, bucket, head):
        put = {"Bucket": bucket, "Key": "c", "Body": b"new"}
        assert code(plain.put_object, **put, IfMatch='"0"') == "PreconditionFailed"
        assert code(plain.put_object, **put | {"Key": "absent"}, IfMatch=head["ETag"]) == "NoSuchKey"
        assert plain.put_object(**put, IfMatch=head["ETag"])["ETag"] != head["ETag"]
        assert code(plain.put_object, **put, IfMatch=head["ETag"]) == "PreconditionFailed"

    def test_object_is_deleted_only_if_it_has_the_tag(self, plain, bucket, head):
        assert code(plain.delete_object, Bucket=bucket, Key="c", IfMatch='"0"') == "PreconditionFailed"
        plain.delete_object(Bucket=bucket, Key="c", IfMatch=head["ETag"])
        assert code(plain.head_object, Bucket=bucket, Key="c") == "404"

    def test_upload_completes_only_if_key_is_free(self, plain, bucket):
        upload = plain.create_multipart_upload(Bucket=bucket, Key="once")["UploadId"]
        part = plain.upload_part(Bucket=bucket, Key="once", UploadId=upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        plain.put_object(Bucket=bucket, Key="once", Body=b"first")
        choices = {"Bucket": bucket, "Key": "once", "UploadId": upload, "MultipartUpload": parts}
        assert code(plain.complete_multipart_upload, **choices, IfNoneMatch="*") == "PreconditionFailed"
        plain.complete_multipart_upload(**choices)
        assert plain.get_object(Bucket=bucket, Key="once")["Body"].read() == b"part"

    def test_copy_is_made_only_if_source_meets_conditions(self, plain, bucket, head):
        copy = {"Bucket": bucket, "Key": "copied", "CopySource": {"Bucket": bucket, "Key": "c"}}
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert code(plain.copy_object, **copy, CopySourceIfNoneMatch=head["ETag"]) == "PreconditionFailed"
        assert code(plain.copy_object, **copy, CopySourceIfModifiedSince=tomorrow) == "PreconditionFailed"
        plain.copy_object(**copy, CopySourceIfMatch=head["ETag"])
        assert plain.get_object(Bucket=bucket, Key="copied")["Body"].read() == b"content"


class TestRanges:
    @pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=5-2", "bytes=", "bytes=a-b", "bits=1-2", "bytes=-"])
    def test_range_that_s3_does_not_know_is_ignored(self, s3, bucket, stored, header):
        answer = s3.get_object(Bucket=bucket, Key="data", Range=header)
        assert (answer["Body"].read(), answer["ResponseMetadata"]["HTTPStatusCode"]) == (stored, 200)

    @pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-"])
    def test_empty_object_has_no_range(self, plain, bucket, header):
        plain.put_object(Bucket=bucket, Key="empty", Body=b"")
        assert code(plain.get_object, Bucket=bucket, Key="empty", Range=header) == "InvalidRange"

    def test_parts_of_upload_are_read_by_number(self, plain, bucket):
        bodies = {1: os.urandom(PART), 3: b"end"}
        upload = plain.create_multipart_upload(Bucket=bucket, Key="parts", Metadata={"a": "b"})["UploadId"]
        choices = {"Bucket": bucket, "Key": "parts", "UploadId": upload}
        tags = {
            number: plain.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=number, Body=body)[
                "ETag"
            ]
            for number, body in bodies.items()
        }
        listed = plain.list_parts(Bucket=bucket, Key="parts", UploadId=upload, MaxParts=1)
        assert (listed["IsTruncated"], listed["NextPartNumberMarker"], listed["Parts"][0]["Size"]) == (True, 1, PART)
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in tags.items()]
        wrong = [
            ("InvalidPartOrder", parts[::-1]),
            ("InvalidPart", [parts[0], {"PartNumber": 2, "ETag": parts[1]["ETag"]}]),
            ("InvalidPart", [parts[0], {"PartNumber": 3, "ETag": parts[0]["ETag"]}]),
            ("MalformedXML", []),
        ]
        for expected, given in wrong:
            assert code(plain.complete_multipart_upload, **choices, MultipartUpload={"Parts": given}) == expected
        whole = plain.complete_multipart_upload(**choices, MultipartUpload={"Parts": parts})
        assert whole["ETag"].endswith('-2"')
        # A client that lost the answer asks again, perhaps after a restart or another change of the object.
        again = plain.complete_multipart_upload(**choices, MultipartUpload={"Parts": parts})
        assert (again["ETag"], again["Location"]) == (whole["ETag"], whole["Location"])
        assert code(plain.complete_multipart_upload, **choices, MultipartUpload={"Parts": parts[:1]}) == "NoSuchUpload"
        second = plain.get_object(Bucket=bucket, Key="parts", PartNumber=2)
        assert (second["Body"].read(), second["PartsCount"], second["Metadata"]) == (b"end", 2, {"a": "b"})
        assert second["ContentRange"] == f"bytes {PART}-{PART + 2}/{PART + 3}"
        assert plain.head_object(Bucket=bucket, Key="parts", PartNumber=1)["ContentLength"] == PART
        assert code(plain.get_object, Bucket=bucket, Key="parts", PartNumber=3) == "InvalidPartNumber"
        across = plain.get_object(Bucket=bucket, Key="parts", Range=f"bytes={PART - 2}-{PART + 1}")["Body"].read()
        assert across == bodies[1][-2:] + b"en"

    def test_small_parts_are_refused_and_upload_can_be_aborted(self, plain, bucket):
        upload = plain.create_multipart_upload(Bucket=bucket, Key="small")["UploadId"]
        choices = {"Bucket": bucket, "Key": "small", "UploadId": upload}
        tags = [plain.upload_part(**choices, PartNumber=number, Body=b"x")["ETag"] for number in (1, 2)]
        parts = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]}
        assert code(plain.complete_multipart_upload, **choices, MultipartUpload=parts) == "EntityTooSmall"
        for number in (0, 10_001):
            assert code(plain.upload_part, **choices, PartNumber=number, Body=b"x") == "InvalidArgument"
        listed = plain.list_multipart_uploads(Bucket=bucket, Prefix="small")["Uploads"]
        assert [(item["Key"], item["UploadId"]) for item in listed] == [("small", upload)]
        plain.abort_multipart_upload(**choices)
        assert code(plain.list_parts, **choices) == "NoSuchUpload"
        assert "Uploads" not in plain.list_multipart_uploads(Bucket=bucket, Prefix="small")


class TestCopies:
    def test_copy_keeps_or_replaces_properties(self, plain, bucket):
        source = {"Bucket": bucket, "Key": "source é+&"}
        plain.put_object(**source, Body=b"data", ContentType="text/x", Metadata={"a": "b"}, Tagging="t=1")
        plain.copy_object(Bucket=bucket, Key="kept", CopySource=source)
        kept = plain.get_object(Bucket=bucket, Key="kept")
        assert (kept["Body"].read(), kept["ContentType"], kept["Metadata"]) == (b"data", "text/x", {"a": "b"})
        assert plain.get_object_tagging(Bucket=bucket, Key="kept")["TagSet"] == [{"Key": "t", "Value": "1"}]
        plain.copy_object(
            Bucket=bucket,
            Key="kept",
            CopySource=source,
            MetadataDirective="REPLACE",
            Metadata={"c": "d"},
            TaggingDirective="REPLACE",
            Tagging="u=2",
        )
        replaced = plain.head_object(Bucket=bucket, Key="kept")
        assert (replaced["ContentType"], replaced["Metadata"]) == ("binary/octet-stream", {"c": "d"})
        assert plain.get_object_tagging(Bucket=bucket, Key="kept")["TagSet"] == [{"Key": "u", "Value": "2"}]

    def test_copy_to_itself_needs_a_change(self, plain, bucket):
        itself = {"Bucket": bucket, "Key": "itself"}
        plain.put_object(**itself, Body=b"data")
        assert code(plain.copy_object, **itself, CopySource=itself) == "InvalidRequest"
        plain.copy_object(**itself, CopySource=itself, MetadataDirective="REPLACE", Metadata={"a": "b"})
        assert plain.head_object(**itself)["Metadata"] == {"a": "b"}

    def test_parts_are_copied_from_ranges(self, plain, bucket):
        data = os.urandom(PART + 10)
        plain.put_object(Bucket=bucket, Key="large", Body=data)
        upload = plain.create_multipart_upload(Bucket=bucket, Key="from", ChecksumAlgorithm="CRC32")["UploadId"]
        choices = {"Bucket": bucket, "Key": "from", "UploadId": upload}
        source = {"Bucket": bucket, "Key": "large"}
        parts = []
        for number, span in enumerate((f"bytes=5-{PART + 4}", "bytes=0-3"), 1):
            copied = plain.upload_part_copy(**choices, PartNumber=number, CopySource=source, CopySourceRange=span)
            result = copied["CopyPartResult"]
            parts.append({"PartNumber": number, "ETag": result["ETag"], "ChecksumCRC32": result["ChecksumCRC32"]})
        refused = plain.upload_part_copy, {"PartNumber": 3, "CopySource": source, **choices}
        assert code(refused[0], **refused[1], CopySourceRange=f"bytes=0-{PART + 10}") == "InvalidRequest"
        assert code(refused[0], **refused[1], CopySourceRange="bytes=5-") == "InvalidArgument"
        plain.complete_multipart_upload(**choices, MultipartUpload={"Parts": parts})
        plain.delete_object(**source)
        assert plain.get_object(Bucket=bucket, Key="from")["Body"].read() == data[5 : PART + 5] + data[:4]


class TestVersions:
    def test_suspended_bucket_names_the_null_version(self, plain):
        where = {"Bucket": new_bucket(plain), "Key": "k"}
        assert "VersionId" not in plain.put_object(**where, Body=b"0")
        status = {"Bucket": where["Bucket"], "VersioningConfiguration": {"Status": "Suspended"}}
        plain.put_bucket_versioning(**status)
        # Also for an object that was stored before.
        assert plain.head_object(**where)["VersionId"] == "null"
        assert plain.put_object(**where, Body=b"1")["VersionId"] == "null"
        assert plain.get_object(**where, VersionId="null")["VersionId"] == "null"
        copy = plain.copy_object(Bucket=where["Bucket"], Key="copy", CopySource=where)
        assert copy["VersionId"] == copy["CopySourceVersionId"] == "null"
        upload = {**where, "UploadId": plain.create_multipart_upload(**where)["UploadId"]}
        part = plain.upload_part_copy(**upload, PartNumber=1, CopySource=where)
        assert part["CopySourceVersionId"] == "null"
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
        # The second answer is that of a repeated request.
        for _ in range(2):
            assert plain.complete_multipart_upload(**upload, MultipartUpload=parts)["VersionId"] == "null"
        assert plain.get_object_tagging(**where)["VersionId"] == "null"
        deleted = plain.delete_object(**where)
        assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")

    def test_delete_marker_hides_object(self, plain, versioned):
        where = {"Bucket": versioned, "Key": "hidden"}
        first = plain.put_object(**where, Body=b"1")["VersionId"]
        deleted = plain.delete_object(**where)
        assert deleted["DeleteMarker"]
        with pytest.raises(ClientError) as caught:
            plain.get_object(**where)
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-amz-delete-marker"] == "true"
        assert headers["x-amz-version-id"] == deleted["VersionId"]
        assert code(plain.get_object, **where, VersionId=deleted["VersionId"]) == "MethodNotAllowed"
        assert plain.get_object(**where, VersionId=first)["Body"].read() == b"1"
        page = plain.list_object_versions(Bucket=versioned, Prefix="hidden")
        assert [(item["VersionId"], item["IsLatest"]) for item in page["Versions"]] == [(first, False)]
        assert [item["VersionId"] for item in page["DeleteMarkers"]] == [deleted["VersionId"]]
        plain.delete_object(**where, VersionId=deleted["VersionId"])
        assert plain.get_object(**where)["Body"].read() == b"1"

    def test_versions_are_listed_in_pages(self, plain, versioned):
        written = []
        for number in range(5):
            key = f"pages/{number % 2}"
            written.append((key, plain.put_object(Bucket=versioned, Key=key, Body=b"x")["VersionId"]))
        pages = plain.get_paginator("list_object_versions").paginate(
            Bucket=versioned, Prefix="pages/", PaginationConfig={"PageSize": 2}
        )
        found = [(item["Key"], item["VersionId"]) for page in pages for item in page["Versions"]]
        # The newest version of a key comes first.
        assert found == [item for key in ("pages/0", "pages/1") for item in written[::-1] if item[0] == key]

    def test_several_versions_are_deleted(self, plain, versioned):
        ids = [plain.put_object(Bucket=versioned, Key="many", Body=b"x")["VersionId"] for _ in range(2)]
        objects = [{"Key": "many", "VersionId": ids[0]}, {"Key": "never"}]
        answer = plain.delete_objects(Bucket=versioned, Delete={"Objects": objects})["Deleted"]
        assert answer[0] == {"Key": "many", "VersionId": ids[0]}
        assert answer[1]["DeleteMarker"]
        quiet = plain.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "many"}], "Quiet": True})
        assert "Deleted" not in quiet


class TestRefusals:
    def test_wrong_digests_store_nothing(self, plain, bucket):
        put = {"Bucket": bucket, "Key": "wrong", "Body": b"data"}
        other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        assert code(plain.put_object, **put, ContentMD5=other) == "BadDigest"
        assert code(plain.put_object, **put, ContentMD5="none") == "InvalidDigest"
        other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        assert code(plain.put_object, **put, ChecksumSHA256=other) == "BadDigest"
        assert code(plain.put_object, **put, ChecksumSHA256="none") == "InvalidRequest"
        assert code(plain.head_object, Bucket=bucket, Key="wrong") == "404"

    @pytest.mark.parametrize(
        ("choices", "expected"),
        [
            ({"Key": "k" * 1025}, "KeyTooLongError"),
            ({"Key": "é" * 513}, "KeyTooLongError"),
            ({"Metadata": {"a": "x" * 2048}}, "MetadataTooLarge"),
            ({"ACL": "public-read"}, "AccessControlListNotSupported"),
            ({"GrantRead": "id=x"}, "AccessControlListNotSupported"),
            ({"ObjectLockLegalHoldStatus": "ON"}, "NotImplemented"),
            ({"IfNoneMatch": '"x"'}, "NotImplemented"),
            ({"Tagging": "&".join(f"t{number}=1" for number in range(11))}, "BadRequest"),
            ({"Tagging": "a=1&a=2"}, "InvalidTag"),
            ({"Tagging": f"{'k' * 129}=1"}, "InvalidTag"),
        ],
    )
    def test_put_that_s3_refuses_stores_nothing(self, plain, bucket, choices, expected):
        choices = {"Bucket": bucket, "Key": "refused", "Body": b"x"} | choices
        assert code(plain.put_object, **choices) == expected
        assert code(plain.head_object, Bucket=bucket, Key="refused") == "404"

    def test_longest_key_is_stored(self, plain, bucket):
        for key in ("k" * 1024, "é" * 512, "\U0001f600" * 256):
            plain.put_object(Bucket=bucket, Key=key, Body=b"x")
            assert plain.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"][0]["Key"] == key

    @pytest.mark.parametrize(
        "key",
        [
            "a/../b",
            "./a",
            "a//b",
            "/a",
            "a/",
            "a\nb",
            "a\rb",
            "a\x01b",
            "%2F",
            "%",
            "a+b c",
            "é\u0301",
            "?x=1#y",
            "~'()*!",
        ],
    )
    def test_key_with_odd_characters_names_one_object(self, plain, key):
        bucket = new_bucket(plain)
        plain.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert plain.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
        assert [item["Key"] for item in plain.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
        plain.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        plain.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}]})
        plain.delete_object(Bucket=bucket, Key=key)
        plain.delete_bucket(Bucket=bucket)

    @pytest.mark.parametrize("name", ["UPPER", "ab..cd", "192.168.0.1", "-ab", "ab-", "xn--ab", "ab-s3alias", "a_b"])
    def test_bucket_with_wrong_name_is_refused(self, plain, name):
        assert code(plain.create_bucket, Bucket=name) == "InvalidBucketName"


class TestBuckets:
    @pytest.mark.parametrize("region", ["eu-west-1", "US"])
    def test_client_of_another_region_is_sent_to_the_right_one(self, embedded, bucket, region):
        elsewhere = client_of(embedded, region=region)
        # The first answer to HEAD names the region in a header, as it has no body. Other answers name it there, too.
        assert elsewhere.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
        elsewhere = client_of(embedded, region=region)
        assert elsewhere.list_objects_v2(Bucket=bucket)["Name"] == bucket
        with pytest.raises(ClientError) as caught:
            elsewhere.list_buckets()
        assert caught.value.response["Error"]["Code"] == "AuthorizationHeaderMalformed"
        assert caught.value.response["Error"]["Region"] == "us-east-1"

    def test_bucket_with_objects_is_not_deleted(self, plain):
        name = new_bucket(plain)
        plain.put_object(Bucket=name, Key="k", Body=b"")
        assert code(plain.delete_bucket, Bucket=name) == "BucketNotEmpty"
        plain.delete_object(Bucket=name, Key="k")
        plain.delete_bucket(Bucket=name)
        assert code(plain.head_bucket, Bucket=name) == "404"
        assert code(plain.list_objects_v2, Bucket=name) == "NoSuchBucket"

    def test_buckets_are_listed_in_pages(self, plain):
        prefix = new_bucket(plain)
        names = [f"{prefix}-{number}" for number in range(3)]
        for name in names:
            plain.create_bucket(Bucket=name)
        pages = plain.get_paginator("list_buckets").paginate(Prefix=f"{prefix}-", PaginationConfig={"PageSize": 2})
        assert [[item["Name"] for item in page["Buckets"]] for page in pages] == [names[:2], names[2:]]

    def test_configurations_are_stored_and_deleted(self, plain):
        name = new_bucket(plain)
        where = {"Bucket": name}
        assert code(plain.get_bucket_tagging, **where) == "NoSuchTagSet"
        tags = {"TagSet": [{"Key": "a", "Value": "b&c"}]}
        plain.put_bucket_tagging(**where, Tagging=tags)
        assert plain.get_bucket_tagging(**where)["TagSet"] == tags["TagSet"]
        plain.delete_bucket_tagging(**where)
        assert code(plain.get_bucket_tagging, **where) == "NoSuchTagSet"
        assert code(plain.get_bucket_policy, **where) == "NoSuchBucketPolicy"
        assert code(plain.put_bucket_policy, **where, Policy="no JSON") == "MalformedPolicy"
        plain.put_bucket_policy(**where, Policy='{"Statement": []}')
        assert plain.get_bucket_policy(**where)["Policy"] == '{"Statement": []}'
        rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "p/"}, "Expiration": {"Days": 3}}
        plain.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration={"Rules": [rule]})
        assert plain.get_bucket_lifecycle_configuration(**where)["Rules"] == [rule]
        plain.delete_bucket_lifecycle(**where)
        assert code(plain.get_bucket_lifecycle_configuration, **where) == "NoSuchLifecycleConfiguration"
        # A bucket of the same name has none of them.
        plain.delete_bucket(**where)
        plain.create_bucket(**where)
        assert code(plain.get_bucket_policy, **where) == "NoSuchBucketPolicy"

    def test_defaults_are_those_of_new_buckets(self, plain, bucket):
        where = {"Bucket": bucket}
        assert plain.get_public_access_block(**where)["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
        (rule,) = plain.get_bucket_ownership_controls(**where)["OwnershipControls"]["Rules"]
        assert rule == {"ObjectOwnership": "BucketOwnerEnforced"}
        (rule,) = plain.get_bucket_encryption(**where)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        assert "Status" not in plain.get_bucket_versioning(**where)
        assert plain.get_bucket_location(**where)["LocationConstraint"] is None
        (grant,) = plain.get_bucket_acl(**where)["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
