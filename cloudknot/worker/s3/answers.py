"""Reject answers that broke off, and answers that AWS did not send, before a caller reads them.

A connection can end in the middle of an answer, and botocore then parses the bytes that arrived: often an empty
answer. A proxy, or the login page of a network, can answer in place of AWS. `check_answers` makes all clients of a
botocore session raise errors in these cases. `retries` repeats the call after such an error. Client and worker use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import IncompleteReadError
from botocore.parsers import ResponseParserError, ResponseParserFactory

from .origin import is_from_aws

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel, Shape
    from botocore.session import Session

Members = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each service, and each operation that cloudknot calls: the members of an answer that AWS never leaves out."""

# Amazon S3 API reference, "Response Elements" of each operation. Lists are missing from S3's answers when they are
# empty. The answer to DeleteObjects may have no members at all, so `_ROOTS` has the name of its document.
S3_MEMBERS: Members = {
    "s3": {
        "AbortMultipartUpload": (),
        "CompleteMultipartUpload": ("ETag",),
        "CreateBucket": (),
        "CreateMultipartUpload": ("UploadId",),
        "DeleteBucket": (),
        "DeleteObject": (),
        "DeleteObjects": (),
        "GetBucketTagging": ("TagSet",),
        "GetObject": ("ContentLength", "ETag"),
        "HeadBucket": (),
        "HeadObject": ("ContentLength", "ETag"),
        "ListObjectsV2": ("IsTruncated", "KeyCount"),
        "PutBucketEncryption": (),
        "PutBucketLifecycleConfiguration": (),
        "PutBucketPolicy": (),
        "PutBucketTagging": (),
        "PutObject": ("ETag",),
        "PutPublicAccessBlock": (),
        "UploadPart": ("ETag",),
    }
}
_ROOTS = {("s3", "DeleteObjects"): "DeleteResult"}
_ROOT = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(?:\w+:)?(\w+)")
_REQUEST_ID = re.compile(rb"<requestid>", re.IGNORECASE)
# A 412 says everything by its status.
_WITHOUT_BODY = frozenset({204, 304, 412})
"""Statuses of answers whose body nobody needs."""
_RANGE = "cloudknot_range"


class WrongAnswer(ResponseParserError):
    """An answer that AWS did not send, or that lacks a part that AWS always sends."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"an answer that AWS did not send: {reason}")


def check_answers(session: Session, needed: Members) -> None:
    """Make all clients that a session will create check their answers.

    The clients raise botocore's ``IncompleteReadError`` for an answer that broke off, and `WrongAnswer` for one that
    AWS did not send. Answers of services that ``needed`` does not name are only checked for their length.
    """
    session.register_component("response_parser_factory", _Factory())
    session.register("before-parameter-build.s3.GetObject", _remember_range)
    session.register("before-parse", _check_length)
    # Before the parser and before the handlers that follow redirects.
    session.register("before-parse", _checking_origin(needed))
    session.register("after-call", _checking_members(needed))


def _check_length(**event: Any) -> None:
    """Compare the body of an answer with its announced length."""
    model: OperationModel = event["operation_model"]
    answer = event["response_dict"]
    body, headers = answer["body"], answer["headers"]
    # A stream checks its length itself, when it ends. And so does a body in chunks.
    is_checked = not isinstance(body, bytes) or "transfer-encoding" in headers
    if is_checked or model.http.get("method") == "HEAD" or answer["status_code"] in _WITHOUT_BODY:
        return
    length = str(headers.get("content-length", ""))
    if length.isdecimal() and int(length) != len(body):
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(length))
    # The answer ended among its headers, which Python's http.client does not notice.
    if not length.isdecimal() and not body:
        raise WrongAnswer("it has no length")


def _checking_origin(needed: Members) -> Callable[..., None]:
    """Return the handler that checks that AWS sent an answer."""

    def check(**event: Any) -> None:
        model: OperationModel = event["operation_model"]
        answer = event["response_dict"]
        if model.service_model.service_name not in needed or is_from_aws(answer["headers"]):
            return
        # Some answers in XML have the id in the document alone.
        if not isinstance(answer["body"], bytes) or not _REQUEST_ID.search(answer["body"]):
            kind = answer["headers"].get("content-type", "no type")
            raise WrongAnswer(f"it has the status {answer['status_code']} and {kind}, but no headers of AWS")

    return check


def _checking_members(needed: Members) -> Callable[..., None]:
    """Return the handler that checks that an answer has the members of its operation."""

    def check(**event: Any) -> None:
        http_response: AWSResponse = event["http_response"]
        model: OperationModel = event["model"]
        parsed, service = event["parsed"], model.service_model.service_name
        if service not in needed or http_response.status_code >= 300:
            return
        _check_root(http_response, model)
        ranges = ("ContentRange",) if event["context"].get(_RANGE) else ()
        members = (*needed[service].get(model.name, ()), *ranges)
        if lacking := [member for member in members if member not in parsed]:
            raise WrongAnswer(f"it lacks {', '.join(lacking)}")
        if model.name == "ListObjectsV2":
            _check_listing(parsed)

    return check


def _check_root(http_response: AWSResponse, model: OperationModel) -> None:
    """Check the name of an answer's XML document, in the protocols that define it."""
    service = model.service_model
    expected = _ROOTS.get((service.service_name, model.name))
    # "AWS query protocol" and "EC2 query protocol" in the Smithy specification.
    if service.resolved_protocol in ("query", "ec2"):
        expected = f"{model.name}Response"
    if expected is None:
        return
    found = _ROOT.match(http_response.content)
    root = found[1].decode() if found else "no document"
    if root != expected:
        raise WrongAnswer(f"it has {root} in place of {expected}")


def _check_listing(page: dict[str, Any]) -> None:
    """Check that a page of keys is complete, and leads to the next page."""
    count = len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ()))
    if count < page["KeyCount"]:
        raise WrongAnswer(f"it has {count} keys in place of {page['KeyCount']}")
    if page["IsTruncated"] and not page.get("NextContinuationToken"):
        raise WrongAnswer("it lacks NextContinuationToken")


def _remember_range(**event: Any) -> None:
    """Note in the context of a call that it reads a range: the answer must then name that range."""
    event["context"][_RANGE] = event["params"].get("Range")


class _Factory(ResponseParserFactory):
    """Makes botocore's parsers, with one kind of error for all answers that they cannot parse."""

    def create_parser(self, protocol_name: str) -> Any:
        return _Parser(super().create_parser(protocol_name))


class _Parser:
    """A parser of botocore that raises `WrongAnswer` where botocore takes the form of an answer for granted."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def parse(self, response: dict[str, Any], shape: Shape | None) -> Any:
        try:
            return self._parser.parse(response, shape)
        except Exception as error:
            raise WrongAnswer(f"it cannot be parsed ({type(error).__name__})") from error
