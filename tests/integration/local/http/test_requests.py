"""The embedded cloud checks signatures, stores objects, refuses and lists as AWS does, for boto3 and for bare HTTP."""

import os
import stat
import uuid
from http.client import HTTPConnection

import boto3
import pytest
from botocore.exceptions import ClientError

from cloudknot.local import LocalCloud
from cloudknot.local.directory.files import state_file
from cloudknot.local.directory.state import read_state
from tests.helpers.batch import WORKER
from tests.helpers.waiting import LONG


class TestRequests:
    def test_only_owner_can_read_key(self, embedded, directory):
        assert stat.S_IMODE(state_file(directory).stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert read_state(directory).secret_key not in repr(read_state(directory))

    @pytest.mark.parametrize("path", ["/", "/_cloudknot/status", "/moto-api/reset", "/v1/submitjob", "/bucket/key"])
    def test_unsigned_request_is_refused(self, embedded, path):
        connection = HTTPConnection(embedded.endpoint_url.partition("//")[2], timeout=LONG)
        connection.request("POST", path, body=b"{}")
        assert connection.getresponse().status == 403
        connection.close()

    @pytest.mark.parametrize(
        ("service", "operation", "code"),
        [
            ("s3", "list_buckets", "SignatureDoesNotMatch"),
            ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
            ("ec2", "describe_vpcs", "SignatureDoesNotMatch"),
            ("batch", "describe_job_queues", "SignatureDoesNotMatch"),
            ("logs", "describe_log_groups", "SignatureDoesNotMatch"),
        ],
    )
    def test_wrong_secret_is_refused_in_each_protocol(self, embedded, directory, service, operation, code):
        client = foreign_client(service, embedded, read_state(directory).access_key)
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)()
        assert caught.value.response["Error"]["Code"] == code

    def test_unknown_access_key_is_refused(self, embedded):
        with pytest.raises(ClientError) as caught:
            foreign_client("s3", embedded, "AKIANOBODY").list_buckets()
        assert caught.value.response["Error"]["Code"] == "InvalidAccessKeyId"

    def test_keys_with_special_characters_return_their_objects(self, embedded):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="difficult")
        for key in ("a b/c+d", "100%/é", "a//b", "x?y=z&w", "~tilde=(1)"):
            s3.put_object(Bucket="difficult", Key=key, Body=key.encode())
            assert s3.get_object(Bucket="difficult", Key=key)["Body"].read() == key.encode()

    @pytest.mark.parametrize(
        "key", ["a\nb", "\n", "a\r\nb", "tab\there", "/first", "../up", "a;b=c", "a#b", "a\\b", "%2F"]
    )
    def test_key_with_special_characters_works_in_every_operation(self, embedded, key):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="keys")
        s3.put_object(Bucket="keys", Key=key, Body=b"1", ContentType="text/plain")
        assert s3.head_object(Bucket="keys", Key=key)["ContentType"] == "text/plain"
        s3.copy_object(Bucket="keys", Key=f"copy {key}", CopySource={"Bucket": "keys", "Key": key})
        listed = [item["Key"] for item in s3.list_objects_v2(Bucket="keys")["Contents"]]
        assert sorted(listed) == sorted([key, f"copy {key}"])
        deleted = s3.delete_objects(Bucket="keys", Delete={"Objects": [{"Key": name} for name in listed]})
        assert len(deleted["Deleted"]) == len(listed)
        assert s3.list_objects_v2(Bucket="keys")["KeyCount"] == 0

    @pytest.mark.parametrize("delimiter", [{}, {"Delimiter": "/"}], ids=["plain", "delimiter"])
    @pytest.mark.parametrize("token", ["garbage!", "/w==", "a"])
    def test_invalid_continuation_token_is_refused(self, embedded, delimiter, token):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="tokens")
        with pytest.raises(ClientError, match="continuation token") as caught:
            s3.list_objects_v2(Bucket="tokens", ContinuationToken=token, **delimiter)
        assert caught.value.response["Error"]["Code"] == "InvalidArgument"

    def test_range_of_large_object_is_returned(self, embedded):
        s3, data = embedded.client("s3"), os.urandom(3 << 20)
        s3.create_bucket(Bucket="large")
        s3.put_object(Bucket="large", Key="k", Body=data)
        assert (
            s3.get_object(Bucket="large", Key="k", Range="bytes=1000000-1000009")["Body"].read()
            == (data[1000000:1000010])
        )

    def test_empty_object_is_returned(self, embedded):
        s3 = embedded.client("s3")
        s3.create_bucket(Bucket="empty")
        s3.put_object(Bucket="empty", Key="k", Body=b"")
        assert s3.get_object(Bucket="empty", Key="k")["Body"].read() == b""

    def test_local_cloud_ignores_users_aws_settings_and_proxies(self, directory, embedded, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null/nonsense")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEONEELSE")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert LocalCloud(directory).account == embedded.account


def foreign_client(service, cloud, access_key):
    """Return a client with a wrong secret key."""
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="wrong",
    )


class TestRefusals:
    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"jobName": "no spaces"}, "Job name should match valid pattern"),
            ({"jobQueue": "nowhere"}, "does not exist"),
            ({"jobDefinition": "nothing"}, "does not exist"),
            ({"jobDefinition": "worker:99"}, "does not exist"),
            ({"size": 10_001}, "Array size must be between 2 and 10000"),
            ({"size": 1}, "Array size must be between 2 and 10000"),
            ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
            ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
            ({"dependsOn": [{"jobId": "nobody"}]}, "does not exist"),
            ({"dependsOn": [{"jobId": str(number)} for number in range(21)]}, "more than 20 dependencies"),
            ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "Only an array job"),
            ({"environment": {"AWS_BATCH_JOB_ID": "mine"}}, "AWS_BATCH"),
            ({"environment": {"A": "x" * 40_000}}, "less than 30 KiB, got 40 KiB"),
        ],
    )
    def test_invalid_submission_raises_client_exception(self, client, choices, message):
        with pytest.raises(client.batch.exceptions.ClientException, match=message) as caught:
            client.submit(*WORKER, "leave", "0", **choices)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400

    def test_unknown_job_cannot_be_terminated(self, client):
        with pytest.raises(client.batch.exceptions.ClientException, match="does not exist"):
            client.batch.terminate_job(jobId=str(uuid.uuid4()), reason="x")

    def test_disabled_queue_refuses_jobs_at_once(self, client):
        client.queue("brief")
        client.wait(client.submit("true", jobQueue="brief"))
        client.batch.update_job_queue(jobQueue="brief", state="DISABLED")
        with pytest.raises(client.batch.exceptions.ClientException, match="not enabled"):
            client.submit("true", jobQueue="brief")

    def test_job_definition_name_selects_latest_revision_at_once(self, client):
        client.define("growing", client.image, command=["echo", "1"])
        client.submit(jobDefinition="growing")
        client.define("growing", client.image, command=["echo", "2"])
        job = client.describe(client.submit(jobDefinition="growing"))
        assert job["container"]["command"] == ["echo", "2"]
        first = client.describe(client.submit(jobDefinition="growing:1"))
        assert first["container"]["command"] == ["echo", "1"]


class TestListing:
    def test_jobs_of_queue_are_listed_by_status_newest_first_in_pages(self, client):
        client.queue("listed")
        ids = [client.submit("true", jobQueue="listed", jobName=f"n{number}") for number in range(5)]
        for job_id in ids:
            client.wait(job_id)
        pages = client.batch.get_paginator("list_jobs").paginate(
            jobQueue="listed", jobStatus="SUCCEEDED", PaginationConfig={"PageSize": 2}
        )
        assert [job["jobId"] for page in pages for job in page["jobSummaryList"]] == ids[::-1]
        # ListJobs without a status or a filter lists running jobs only.
        assert client.batch.list_jobs(jobQueue="listed")["jobSummaryList"] == []
        named = client.batch.list_jobs(jobQueue="listed", filters=[{"name": "JOB_NAME", "values": ["N3"]}])
        assert [job["jobName"] for job in named["jobSummaryList"]] == ["n3"]

    def test_describe_jobs_omits_unknown_jobs(self, client):
        assert client.batch.describe_jobs(jobs=["nobody"])["jobs"] == []
