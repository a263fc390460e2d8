"""Clients reject answers that broke off or did not come from AWS. A local server sends the bytes of each answer."""

import contextlib
import json
import re
import socket
import threading
import time

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.session import Session

from cloudknot.aws.door import FIRST_PATIENCE, Door
from cloudknot.aws.sdk.members import MEMBERS
from cloudknot.errors import CloudError
from cloudknot.worker.s3.answers import WrongAnswer, check_answers
from cloudknot.worker.s3.owners import BucketOwners
from cloudknot.worker.s3.plain_requests import PlainRequests
from cloudknot.worker.s3.retries import NO_RETRIES, PRECONDITION_FAILED, Persistence, Trouble, code_of, trouble_of
from cloudknot.worker.s3.server import server_of_client

KEY = {"Bucket": "b", "Key": "k"}
ETAG = 'ETag: "5d41402abc4b2a76b9719d911017c592"'
LISTING = (
    "<ListBucketResult><IsTruncated>{more}</IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents>"
    "<KeyCount>{count}</KeyCount>{token}</ListBucketResult>"
)


def answer(body="", *headers, status=200, kind="application/xml", length=None):
    """Return the bytes of an answer with the id of a request."""
    lines = [
        f"HTTP/1.1 {status} Status",
        "Connection: close",
        "x-amzn-RequestId: 1",
        *headers,
        f"Content-Type: {kind}",
    ]
    return "\r\n".join([*lines, f"Content-Length: {len(body) if length is None else length}", "", body]).encode()


def result(operation, members):
    """Return the answer to an operation in AWS's query protocol."""
    return answer(f"<{operation}Response><{operation}Result>{members}</{operation}Result></{operation}Response>")


def documents(**members):
    """Return an answer in JSON."""
    return answer(json.dumps(members), kind="application/json")


def page(count=1, more="false", token=""):
    """Return an answer to ListObjectsV2 with one key."""
    return answer(LISTING.format(count=count, more=more, token=token))


STACKS = "<Stacks><member><StackName>s</StackName></member></Stacks>"
VPCS = "<vpcSet><item><vpcId>v</vpcId></item></vpcSet>"
CALLS = {
    "DescribeJobs": ("batch", "describe_jobs", {"jobs": ["a"]}, documents(jobs=[{"jobId": "a", "status": "RUNNING"}])),
    "SubmitJob": (
        "batch",
        "submit_job",
        {"jobName": "n", "jobQueue": "q", "jobDefinition": "d"},
        documents(jobName="n", jobId="i"),
    ),
    "GetAuthorizationToken": ("ecr", "get_authorization_token", {}, documents(authorizationData=[{}])),
    "GetLogEvents": (
        "logs",
        "get_log_events",
        {"logGroupName": "g", "logStreamName": "s"},
        documents(events=[], nextForwardToken="t"),
    ),
    "DescribeStacks": ("cloudformation", "describe_stacks", {}, result("DescribeStacks", STACKS)),
    "GetCallerIdentity": ("sts", "get_caller_identity", {}, result("GetCallerIdentity", "<Account>1</Account>")),
    "DescribeVpcs": ("ec2", "describe_vpcs", {}, answer(f"<DescribeVpcsResponse>{VPCS}</DescribeVpcsResponse>")),
    "ListObjectsV2": ("s3", "list_objects_v2", {"Bucket": "b"}, page()),
    "GetObject": ("s3", "get_object", KEY, answer("content", ETAG)),
    "PutObject": ("s3", "put_object", {**KEY, "Body": b"x"}, answer("", ETAG)),
    "UploadPart": (
        "s3",
        "upload_part",
        {**KEY, "Body": b"x", "UploadId": "u", "PartNumber": 1},
        answer("", ETAG),
    ),
    "CompleteMultipartUpload": (
        "s3",
        "complete_multipart_upload",
        {**KEY, "UploadId": "u"},
        answer("<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
    ),
    "DeleteObjects": (
        "s3",
        "delete_objects",
        {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}},
        answer("<DeleteResult/>"),
    ),
}
"""For each operation: service, method, arguments, and AWS's answer."""
ANY = (BotoCoreError, ClientError, ResponseParserError)
"""All errors of a call by botocore."""
PAGE = "<!DOCTYPE html><html><head><title>Guest network</title></head><body>Log in.</body></html>"


class Server:
    """A server that sends the same bytes to every request, and then closes the connection."""

    def __init__(self):
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = "http://127.0.0.1:{1}".format(*self._socket.getsockname())
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        # Wakes the thread, which waits for a connection.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10)
                self._read(connection)
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)

    def _read(self, connection):
        """Read a request with its body, so that the connection ends with FIN and not with RST."""
        with connection.makefile("rb") as file:
            length = 0
            while (line := file.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"expect":
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = int(value) if name.lower() == b"content-length" else length
            file.read(length)


@pytest.fixture(scope="module")
def server():
    """A running server."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def session():
    """A session whose clients check their answers."""
    session = Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
    check_answers(session, MEMBERS)
    return session


@pytest.fixture(scope="module")
def client(session, server):
    """Return clients of the server that repeat no call."""
    clients = {}

    def make(service):
        if service not in clients:
            config = Config(retries=NO_RETRIES, s3={"addressing_style": "path"}, connect_timeout=10, read_timeout=10)
            clients[service] = session.create_client(
                service, region_name="us-east-1", endpoint_url=server.url, config=config
            )
        return clients[service]

    return make


@pytest.fixture
def call(client, server):
    """Return a function that calls an operation, whose answer are the given bytes, and reads all of it."""

    def call(operation, data):
        service, method, arguments, _ = CALLS[operation]
        server.answer = data
        parsed = getattr(client(service), method)(**arguments)
        body = parsed.pop("Body").read() if "Body" in parsed else b""
        del parsed["ResponseMetadata"]
        return parsed, body

    return call


def trouble(call, operation, data):
    """Return the trouble of a call that fails for these bytes, or None if it does not fail."""
    try:
        call(operation, data)
    except ANY as error:
        return trouble_of(error)
    return None


@pytest.mark.parametrize("operation", CALLS)
def test_answer_that_ends_anywhere_is_whole_or_an_error_to_repeat(call, operation):
    whole = CALLS[operation][3]
    expected = call(operation, whole)
    troubles = []
    for end in range(0, len(whole), 5):
        try:
            members = call(operation, whole[:end])
        except ANY as error:
            troubles.append(trouble_of(error))
        else:
            # Only ends among the last headers change nothing.
            assert members == expected, whole[:end]
    assert None not in troubles
    assert len(troubles) > 0.9 * len(whole) / 5


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("status", [200, 302, 403, 511])
def test_page_in_place_of_answer_is_error_to_repeat(call, operation, status):
    page = answer(PAGE, ETAG, status=status, kind="text/html").replace(b"x-amzn-RequestId", b"Via")
    assert trouble(call, operation, page) is Trouble.WRONG_ANSWER


@pytest.mark.parametrize("operation", [name for name in CALLS if name != "DeleteObjects"])
def test_answer_without_member_is_error_to_repeat(call, operation):
    service, _, _, whole = CALLS[operation]
    for member in MEMBERS[service][operation]:
        name = {"Vpcs": "vpcSet", "ContentLength": "Content-Length"}.get(member, member)
        spoiled = whole.replace(name.encode(), b"X" * len(name))
        assert spoiled != whole
        assert trouble(call, operation, spoiled) is Trouble.WRONG_ANSWER


@pytest.mark.parametrize("operation", CALLS)
def test_answer_to_another_operation_is_error_to_repeat(call, operation):
    service = CALLS[operation][0]
    other = answer("<ListAllMyBucketsResult><Owner><ID>o</ID></Owner></ListAllMyBucketsResult>")
    if service in ("batch", "ecr", "logs"):
        other = documents(computeEnvironments=[])
    elif service != "s3":
        other = result("DescribeTypes", "<Types/>")
    assert trouble(call, operation, other) is Trouble.WRONG_ANSWER


@pytest.mark.parametrize(
    "body", ['{"jobs": 5}', '{"jobs": "many"}', "[1, 2]", "null", '"text"', "{", "\x00", "<html/>", '{"jobs": [[]]}']
)
def test_document_of_another_form_is_error_to_repeat(call, body):
    data = answer(body, kind="application/json")
    assert trouble(call, "DescribeJobs", data) is Trouble.WRONG_ANSWER


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        (page(count=2), "it has 1 keys in place of 2"),
        (page(more="true"), "it lacks NextContinuationToken"),
        (answer("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"), "it lacks KeyCount"),
        (answer("<ListBucketResult/>"), "it lacks IsTruncated, KeyCount"),
        (answer(""), "it lacks IsTruncated, KeyCount"),
    ],
)
def test_listing_announces_number_of_its_keys_and_next_page(call, listing, reason):
    with pytest.raises(WrongAnswer, match=f": {reason}$"):
        call("ListObjectsV2", listing)


@pytest.mark.parametrize("length", [0, 5, 20, 300])
def test_status_412_is_taken_whatever_its_body(call, length):
    body = "<Error><Code>PreconditionFailed</Code><Message>At least one of the pre-conditions failed</Message></Error>"
    with pytest.raises(ClientError) as caught:
        call("PutObject", answer(body[:length], status=412, length=len(body)))
    assert code_of(caught.value) == PRECONDITION_FAILED
    assert trouble_of(caught.value) is None


def test_range_that_was_not_respected_is_error_to_repeat(client, server):
    server.answer = answer("the whole object", ETAG)
    with pytest.raises(WrongAnswer, match=r": it lacks ContentRange$"):
        client("s3").get_object(**KEY, Range="bytes=4-8")
    server.answer = answer("whole", ETAG, "Content-Range: bytes 4-8/16", status=206)
    assert client("s3").get_object(**KEY, Range="bytes=4-8")["Body"].read() == b"whole"


def test_errors_of_aws_keep_their_code(client, server):
    server.answer = answer("<Error><Code>NoSuchKey</Code><Message>none</Message></Error>", status=404)
    with pytest.raises(client("s3").exceptions.NoSuchKey):
        client("s3").get_object(**KEY)
    # S3 reports some errors with HTTP 200.
    server.answer = answer("<Error><Code>InternalError</Code><Message>later</Message></Error>")
    with pytest.raises(Exception, match="InternalError") as caught:
        client("s3").complete_multipart_upload(**KEY, UploadId="u")
    assert trouble_of(caught.value) is Trouble.UNANSWERED


@pytest.mark.parametrize("operation", ["DescribeJobs", "ListObjectsV2", "GetCallerIdentity"])
def test_error_for_login_page_names_proxy_and_login_page(server, operation):
    service, method, arguments, _ = CALLS[operation]
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    server.answer = answer(PAGE, kind="text/html").replace(b"x-amzn-RequestId", b"Via")
    door = Door(keys, server.url, isolated=True, patience=0.1)
    door.owners.learn("123456789012")
    with pytest.raises(CloudError) as caught:
        door.call(service, method, **arguments)
    assert re.fullmatch(
        rf"{service}:{method} got an answer that AWS did not send: it has the status 200 and text/html, but no "
        r"headers of AWS\. A proxy, or the login page of your network .* and try again\.",
        str(caught.value),
    )
    # The page does not show that AWS can be reached.
    assert door._should_retry(Trouble.WRONG_ANSWER, FIRST_PATIENCE - 1)
    assert not door._should_retry(Trouble.WRONG_ANSWER, FIRST_PATIENCE + 1)


def test_error_for_cut_answer_is_not_that_of_silence(server):
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    server.answer = CALLS["DescribeJobs"][3][:-5]
    with pytest.raises(CloudError, match=r"^batch:describe_jobs got only a part of its answer: \d+ read"):
        Door(keys, server.url, isolated=True, patience=0.1).call("batch", "describe_jobs", jobs=["a"])


def test_service_that_cloudknot_does_not_call_needs_only_whole_answers(client, server):
    server.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    assert client("ssm").describe_parameters()["ResponseMetadata"]["HTTPStatusCode"] == 200
    server.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{}"
    with pytest.raises(Exception, match="2 read, but total bytes expected is 20"):
        client("ssm").describe_parameters()


def test_call_is_repeated_until_its_answer_is_whole(call, server):
    whole = CALLS["DescribeJobs"][3]
    server.answer = whole[:-5]
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            server.answer = whole

    def attempt():
        return call("DescribeJobs", server.answer)[0]

    persistence = Persistence(60, clock=time.monotonic, sleep=pause)
    assert persistence.call(attempt) == {"jobs": [{"jobId": "a", "status": "RUNNING"}]}
    assert len(pauses) == 3


@pytest.mark.parametrize("span", [{}, {"Range": "bytes=0-6"}], ids=["object", "range"])
def test_plain_requests_reject_what_s3_did_not_send(session, client, server, span):
    requests = PlainRequests(server_of_client(session, client("s3")), "test", BucketOwners(lambda: "123456789012"))
    good = answer("content", ETAG, status=206 if span else 200)
    server.answer = good
    assert requests.get("b", "k", span) == b"content"
    for end in (0, 10, 40, len(good) - 8, len(good) - 1):
        server.answer = good[:end]
        assert requests.get("b", "k", span) is None
    for header in (b"x-amzn-RequestId", b"ETag"):
        server.answer = good.replace(header, b"Another")
        assert requests.get("b", "k", span) is None
    server.answer = good
    assert requests.get("b", "k", span) == b"content"
    requests.close()


def test_plain_requests_count_nothing_as_stored_without_answer_by_s3(session, client, server):
    requests = PlainRequests(server_of_client(session, client("s3")), "test", BucketOwners(lambda: "123456789012"))
    for data, is_stored in (
        (answer("", ETAG), True),
        (f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}".encode(), False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nx-amz-request-id: 1\r\n", False),
        (answer("<DeleteResult/>"), False),
        (answer("", ETAG), True),
    ):
        server.answer = data
        assert (requests.put("b", "k", [b"x"], {}) is not None) is is_stored
    requests.close()
