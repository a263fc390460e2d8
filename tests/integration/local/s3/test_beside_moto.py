"""The embedded cloud's S3 and moto's give the same answers to the same random requests, where moto's are S3's.

Where the two differ, AWS's documentation decides, and the comparison leaves the difference out:

* ListObjects returns an empty prefix. moto leaves it out.
* A page for no keys at all has no common prefixes either. moto returns some.
* The deletion of a missing key makes a delete marker in a bucket with versions. moto makes none.
"""

import secrets

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from tests.integration.local.s3.conftest import client_of

KEYS = st.sampled_from(["a", "a/b", "a/b/c", "a/ü", "b", "b c&d", "c+", "~"])
BODIES = st.sampled_from([b"", b"x", b"0123456789", b"y" * 40_000])
RANGES = st.sampled_from(["bytes=0-0", "bytes=2-5", "bytes=5-", "bytes=-3", "bytes=9-100", "bytes=20-30"])
TEXTS = st.sampled_from(["", "a", "a/", "a/b", "b", "zz"])


def step(name, **choices):
    return st.tuples(st.just(name), st.fixed_dictionaries(choices))


def listing(**more):
    optional = {"Prefix": TEXTS, "MaxKeys": st.integers(1, 4), "Delimiter": st.just("/"), **more}
    return st.fixed_dictionaries({}, optional=optional)


STEPS = st.lists(
    st.one_of(
        step("put_object", Key=KEYS, Body=BODIES, Metadata=st.just({"m": "1"})),
        step("put_object", Key=KEYS, Body=BODIES, ContentType=st.sampled_from(["text/plain", "a/b"])),
        step("put_object", Key=KEYS, Body=BODIES, IfNoneMatch=st.just("*")),
        step("get_object", Key=KEYS),
        step("get_object", Key=KEYS, Range=RANGES),
        step("head_object", Key=KEYS),
        step("delete_object", Key=KEYS),
        step(
            "delete_objects",
            Delete=st.lists(KEYS, min_size=1, max_size=3, unique=True).map(
                lambda keys: {"Objects": [{"Key": key} for key in keys]}
            ),
        ),
        step("copy_object", Key=KEYS, CopySource=KEYS),
        step("put_object_tagging", Key=KEYS, Tagging=st.just({"TagSet": [{"Key": "t", "Value": "v"}]})),
        st.tuples(st.just("list_objects_v2"), listing(StartAfter=st.sampled_from(["a", "a/c", "b"]))),
        st.tuples(st.just("list_objects"), listing()),
    ),
    min_size=1,
    max_size=12,
)
MEMBERS = (
    "AcceptRanges",
    "CommonPrefixes",
    "ContentLength",
    "ContentRange",
    "ContentType",
    "Delimiter",
    "ETag",
    "IsTruncated",
    "KeyCount",
    "MaxKeys",
    "Metadata",
    "Prefix",
    "StartAfter",
)
"""The members of answers that are compared."""


@pytest.fixture(scope="module")
def moto():
    """Yield a client of moto's own server."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def outcome(client, bucket, name, choices):
    """Return the parts of an answer that are compared, or the code of an error."""
    choices = {"Bucket": bucket, **choices}
    if "CopySource" in choices:
        choices["CopySource"] = {"Bucket": bucket, "Key": choices["CopySource"]}
    try:
        answer = getattr(client, name)(**choices)
    except ClientError as error:
        return error.response["Error"]["Code"]
    found = {member: answer[member] for member in MEMBERS if answer.get(member) not in (None, "")}
    found["Deleted"] = sorted(item["Key"] for item in answer.get("Deleted", ()))
    if "Body" in answer:
        found["Body"] = answer["Body"].read()
    if "CopyObjectResult" in answer:
        found["ETag"] = answer["CopyObjectResult"]["ETag"]
    found["Contents"] = [(item["Key"], item["Size"], item["ETag"]) for item in answer.get("Contents", ())]
    found["status"] = answer["ResponseMetadata"]["HTTPStatusCode"]
    return found


@pytest.mark.parametrize("is_versioned", [False, True])
def test_same_requests_have_the_same_answers(embedded, plain, moto, is_versioned):
    other = client_of(embedded, endpoint_url=moto)

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STEPS)
    def compare(steps):
        bucket = f"beside-{secrets.token_hex(6)}"
        for client in (plain, other):
            client.create_bucket(Bucket=bucket)
            if is_versioned:
                status = {"Status": "Enabled"}
                client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=status)
        for name, choices in steps:
            assert outcome(plain, bucket, name, choices) == outcome(other, bucket, name, choices), (name, choices)

    compare()
