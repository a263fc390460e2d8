"""Faults that spoil an answer send the bytes that their names promise, for each service and method."""

import contextlib
import json
import re
import socket
from xml.etree import ElementTree

import pytest

import cloudknot as ck
from tests.faulty_cloud.answers import PAGE
from tests.faulty_cloud.plan import Faults
from tests.helpers.raw_requests import key_of
from tests.helpers.waiting import LONG

BUCKET = "spoiled-answers"
FORM = "Version=2011-06-15&Action=GetCallerIdentity"
STACKS = "Version=2010-05-15&Action=DescribeStacks"
REQUESTS = {
    "PUT": ("s3", "PUT", f"/{BUCKET}/written", b"0123456789", {}),
    "GET": ("s3", "GET", f"/{BUCKET}/written", b"", {}),
    "listing": ("s3", "GET", f"/{BUCKET}?list-type=2", b"", {}),
    "batch": ("batch", "POST", "/v1/describejobs", b'{"jobs": []}', {}),
    "ecr": ("ecr", "POST", "/", b"{}", {"X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"}),
    "sts": ("sts", "POST", "/", FORM.encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
    "cloudformation": ("cloudformation", "POST", "/", STACKS.encode(), {}),
}
"""For each name: service, method, path, body and further headers."""
MANY = [name for name in REQUESTS if name != "PUT"]


@pytest.fixture(scope="module")
def bucket(cloud):
    """A bucket for these tests, with one object."""
    cloud.client("s3").create_bucket(Bucket=BUCKET)
    cloud.client("s3").put_object(Bucket=BUCKET, Key="written", Body=b"x" * 1000)
    return BUCKET


@pytest.fixture
def send(cloud, bucket, switches):
    """Return a function that sends a request, and returns the bytes that arrive and whether RST ended them."""
    key = key_of(cloud)
    host, _, port = key.host.partition(":")

    def send(name, faults=None):
        service, method, path, body, more = REQUESTS[name]
        request = key.request(method, path, *more.items(), body=body, service=service)
        switched = switches.on(faults) if faults else contextlib.nullcontext()
        with switched, socket.create_connection((host, int(port)), LONG) as connection:
            connection.sendall(request)
            received = b""
            try:
                while data := connection.recv(65536):
                    received += data
            except ConnectionResetError:
                return received, True
            return received, False

    return send


def every_service(**rates):
    """Return faults that apply to all requests above."""
    return Faults(services=("s3", "batch", "ecr", "sts", "cloudformation"), **rates)


def parts(answer):
    """Return status, announced length and body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return int(head.split()[1]), length and int(length[1]), body


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize(("cut", "rest"), [(0.5, lambda size: size // 2), (7, lambda size: 7), (0, lambda size: 0)])
def test_truncated_answer_has_full_length_and_a_part_of_body(send, name, cut, rest):
    size = len(parts(send(name)[0])[2])
    answer, is_reset = send(name, every_service(truncated=1, cut=cut))
    status, length, body = parts(answer)
    assert (status, is_reset) == (200, False)
    # Ids of requests have the same length each time.
    assert length == size
    assert len(body) == rest(size)


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_cut_at_any_place(send, name):
    whole = len(send(name)[0])
    sizes = {len(send(name, every_service(truncated=1, seed=seed))[0]) for seed in range(12)}
    assert len(sizes) > 6
    assert max(sizes) < whole
    assert max(sizes) > whole / 2 > min(sizes)


@pytest.mark.parametrize("name", REQUESTS)
def test_reset_connection_ends_with_rst(send, name):
    answer, is_reset = send(name, every_service(reset=1))
    assert is_reset
    assert len(answer) < len(send(name)[0])


@pytest.mark.parametrize("name", REQUESTS)
def test_page_is_whole_and_in_html_and_request_has_no_effect(cloud, send, name):
    cloud.client("s3").put_object(Bucket=BUCKET, Key="written", Body=b"before")
    answer, _ = send(name, every_service(pages=1))
    assert parts(answer) == (200, len(PAGE), PAGE)
    assert b"x-amz" not in answer.lower()
    assert cloud.client("s3").get_object(Bucket=BUCKET, Key="written")["Body"].read() == b"before"


@pytest.mark.parametrize("name", REQUESTS)
def test_missing_member_leaves_well_formed_answer(send, name):
    whole, fewer = send(name)[0], send(name, every_service(missing=1))[0]
    _, length, body = parts(fewer)
    assert length == len(body)
    assert members(fewer) == members(whole) - 1


def members(answer):
    """Return the number of members of an answer: in its document, or of ETags in its head."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"json" in head:
        return len(json.loads(body))
    if b"xml" in head:
        root = ElementTree.fromstring(body)
        return len(next((child for child in root if child.tag.endswith("Result")), root))
    return head.lower().count(b"etag:")


@pytest.mark.parametrize("name", REQUESTS)
def test_misplaced_answer_is_well_formed_and_request_has_effect(cloud, send, name):
    answer, _ = send(name, every_service(misplaced=1))
    status, length, body = parts(answer)
    assert (status, length) == (200, len(body))
    assert b"x-amzn-requestid" in answer.lower()
    assert re.search(rb"unknownMember|Accelerate|DescribeType", body)
    if name == "PUT":
        assert cloud.client("s3").get_object(Bucket=BUCKET, Key="written")["Body"].read() == b"0123456789"


@pytest.mark.parametrize("cut", [-1, 1.5])
def test_impossible_place_of_cut_is_refused(cut):
    with pytest.raises(ck.CloudknotInputError, match="cut"):
        Faults(truncated=1, cut=cut)
