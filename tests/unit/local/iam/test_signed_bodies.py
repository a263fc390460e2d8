"""A body is verified while it is read, in each of AWS's forms, and refused at its end after any change."""

import hashlib
import hmac
import io
import os
from datetime import UTC, datetime

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum, Sha256Checksum
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.local.iam.signed_bodies import body_length, check_body, signed_body
from cloudknot.local.iam.signing import DIGEST, AccessKey, Request, SignedClaim
from cloudknot.local.wsgi import ServiceError

KEY = AccessKey("AKIATEST", "secret")
TIME = "20130524T000000Z"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
LENGTH = "x-amz-decoded-content-length"
NAME = "x-amz-checksum-crc32"
TRAILERS = {NAME: "AAAAAA=="}


def claim(signature="0" * 64, **changes):
    signed_at = datetime(2013, 5, 24, tzinfo=UTC)
    fields = {"timestamp": TIME, **changes}
    return SignedClaim("AKIATEST", "20130524", "us-east-1", "s3", ("host",), signature, signed_at, **fields)


def opened(form, sent, key=KEY, seed="0" * 64, **headers):
    """Return the body of a request with this form."""
    named = {DIGEST: form, "content-length": str(len(sent)), **{n.replace("_", "-"): v for n, v in headers.items()}}
    request = Request("PUT", "/b/k", named)
    check_body(request, claim(seed))
    return signed_body(request, claim(seed), key, io.BytesIO(sent)), body_length(request)


class Sender:
    """A client that sends signed chunks. It shares no code with the server."""

    def __init__(self, secret="secret", scope="20130524/us-east-1/s3/aws4_request", seed="0" * 64, time=TIME):
        self._key, self._scope, self._last, self._time = f"AWS4{secret}".encode(), scope, seed, time
        for part in scope.split("/"):
            self._key = hmac.digest(self._key, part.encode(), "sha256")

    def sign(self, kind, digests):
        text = f"AWS4-HMAC-SHA256-{kind}\n{self._time}\n{self._scope}\n{self._last}\n{digests}"
        self._last = hmac.digest(self._key, text.encode(), "sha256").hex()
        return self._last

    def chunk(self, data):
        digests = f"{hashlib.sha256().hexdigest()}\n{hashlib.sha256(data).hexdigest()}"
        signature = self.sign("PAYLOAD", digests)
        return f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + (b"\r\n" if data else b"")

    def body(self, chunks, trailers=()):
        parts = [self.chunk(data) for data in (*chunks, b"")]
        lines = [f"{name}:{value}" for name, value in dict(trailers).items()]
        if lines:
            digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
            lines.append(f"x-amz-trailer-signature:{self.sign('TRAILER', digest)}")
        return b"".join([*parts, *(f"{line}\r\n".encode() for line in lines), b"\r\n"])


def unsigned(chunks, trailers=TRAILERS):
    parts = [b"%x\r\n%b\r\n" % (len(data), data) for data in chunks]
    return b"".join([*parts, b"0\r\n", *(f"{n}:{v}\r\n".encode() for n, v in trailers.items()), b"\r\n"])


def read(body, size):
    """Return the whole body, read in blocks."""
    blocks = []
    while block := body.read(size):
        blocks.append(block)
        assert size < 0 or len(block) <= size
    return b"".join(blocks)


ERRORS = {"SignatureDoesNotMatch", "IncompleteBody", "InvalidRequest", "MalformedTrailerError"}
CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=5)
SIZES = st.sampled_from([1, 7, 100, 1 << 20, -1])


@given(CHUNKS, SIZES, st.sampled_from([(), TRAILERS]))
def test_signed_chunks_are_decoded(chunks, size, trailers):
    form = f"{SIGNED}-TRAILER" if trailers else SIGNED
    named = {"x_amz_trailer": ", ".join(trailers)} if trailers else {}
    data = b"".join(chunks)
    body, length = opened(form, Sender().body(chunks, trailers), **{LENGTH: str(len(data)), **named})
    assert (read(body, size), length, body.trailers) == (data, len(data), dict(trailers))


@given(CHUNKS, SIZES)
def test_unsigned_chunks_are_decoded(chunks, size):
    data = b"".join(chunks)
    body, _ = opened(UNSIGNED_CHUNKS, unsigned(chunks), **{LENGTH: str(len(data)), "x-amz-trailer": NAME})
    assert (read(body, size), body.trailers) == (data, TRAILERS)


@pytest.mark.parametrize("size", [0, 5, 300_000])
@pytest.mark.parametrize("checksum", [Crc32Checksum, Sha256Checksum], ids=["crc32", "sha256"])
def test_chunks_of_botocore_are_decoded(size, checksum):
    data, name = os.urandom(size), "x-amz-checksum-of-botocore"
    wrapper = AwsChunkedWrapper(io.BytesIO(data), checksum_cls=checksum, checksum_name=name, chunk_size=65536)
    sent = wrapper.read()
    body, _ = opened(UNSIGNED_CHUNKS, sent, **{LENGTH: str(size), "x-amz-trailer": name})
    assert read(body, 10_000) == data
    assert body.trailers == {name: checksum().handle(io.BytesIO(data))}


def test_example_in_amazons_documentation_is_accepted():
    """The example of the page "Signature Calculations for the Authorization Header: Transferring Payload"."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    signatures = (
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    )
    chunks = (b"a" * 65536, b"a" * 1024, b"")
    lines = [f"{len(data):x};chunk-signature={name}" for data, name in zip(chunks, signatures, strict=True)]
    sent = b"".join(line.encode() + b"\r\n" + data + b"\r\n" for line, data in zip(lines, chunks, strict=True))
    key = AccessKey("AKIAIOSFODNN7EXAMPLE", secret)
    body, length = opened(SIGNED, sent, key, seed, **{LENGTH: "66560"})
    assert (read(body, 4096), length) == (b"a" * 66560, 66560)


@given(CHUNKS.filter(bool), st.data())
def test_any_change_of_a_signed_body_is_refused(chunks, drawn):
    data, sent = b"".join(chunks), bytearray(Sender().body(chunks, TRAILERS))
    place = drawn.draw(st.integers(0, len(sent) - 1))
    change = drawn.draw(st.sampled_from(["replace", "insert", "cut", "end"]))
    if change == "replace":
        sent[place] ^= drawn.draw(st.integers(1, 255))
    elif change == "insert":
        sent.insert(place, drawn.draw(st.integers(0, 255)))
    else:
        del sent[place : place + 1 if change == "cut" else None]
    named = {LENGTH: str(len(data)), "x-amz-trailer": NAME}
    try:
        body, _ = opened(f"{SIGNED}-TRAILER", bytes(sent), **named)
        found = read(body, 50), body.trailers
    except ServiceError as refused:
        error = refused
    else:
        # The change was one of spelling, in a length or in the name of a trailer.
        assert found == (data, TRAILERS)
        return
    assert error.code in (ERRORS if sent else {"MissingContentLength"})


def test_missing_length_is_named():
    with pytest.raises(ServiceError, match="the Content-Length HTTP header"):
        opened(SIGNED, b"", **{LENGTH: "0"})
    with pytest.raises(ServiceError, match="the x-amz-decoded-content-length HTTP header"):
        opened(SIGNED, b"0;")


@pytest.mark.parametrize(
    ("sent", "length", "code"),
    [
        (unsigned([b"abc"]), 4, "IncompleteBody"),
        (unsigned([b"abc"]), 2, "IncompleteBody"),
        (unsigned([b"abc"])[:-2], 3, "InvalidRequest"),
        (unsigned([b"abc"]) + b"more", 3, "IncompleteBody"),
        (unsigned([b"abc"], {}), 3, "MalformedTrailerError"),
        (unsigned([b"abc"], {**TRAILERS, "x-amz-other": "1"}), 3, "MalformedTrailerError"),
        (unsigned([b"abc"], {"a b": "1"}), 3, "MalformedTrailerError"),
        (unsigned([b"abc"]).replace(b"3\r\n", b"3;chunk-signature=" + b"0" * 64 + b"\r\n"), 3, "InvalidRequest"),
        (b"-3\r\nabc\r\n0\r\n\r\n", 3, "InvalidRequest"),
        (b"3\nabc\r\n0\r\n\r\n", 3, "InvalidRequest"),
        (b"3\r\nabcd\r\n0\r\n\r\n", 3, "InvalidRequest"),
        (b"ffffffffffff\r\nabc", 3, "IncompleteBody"),
        (b"0" * 10_000, 3, "InvalidRequest"),
        (b"", 0, "MissingContentLength"),
    ],
)
def test_malformed_chunks_are_refused(sent, length, code):
    with pytest.raises(ServiceError) as caught:
        read(opened(UNSIGNED_CHUNKS, sent, **{LENGTH: str(length), "x-amz-trailer": NAME})[0], 100)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [1, 4, 5, 100, -1])
def test_digest_is_compared_before_the_last_byte_is_returned(size):
    body, _ = opened(hashlib.sha256(b"good").hexdigest(), b"evil")
    with pytest.raises(ServiceError, match="x-amz-content-sha256"):
        read(body, size)
    body, length = opened(hashlib.sha256(b"good").hexdigest(), b"good")
    assert (read(body, size), length, body.trailers) == (b"good", 4, {})


def test_unsigned_body_is_returned_as_it_is():
    assert read(opened("UNSIGNED-PAYLOAD", b"anything")[0], 3) == b"anything"


@pytest.mark.parametrize(
    ("form", "headers", "code"),
    [
        ("nonsense", {}, "InvalidArgument"),
        ("A" * 64, {}, "InvalidArgument"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", {LENGTH: "1"}, "InvalidArgument"),
        (SIGNED, {}, "MissingContentLength"),
        (SIGNED, {LENGTH: "-1"}, "MissingContentLength"),
        (SIGNED, {LENGTH: "²"}, "MissingContentLength"),
        (SIGNED, {LENGTH: "1", "x-amz-trailer": "x-amz-checksum-crc32"}, "InvalidRequest"),
        (UNSIGNED_CHUNKS, {LENGTH: "1"}, "InvalidRequest"),
        (f"{SIGNED}-TRAILER", {LENGTH: "1", "x-amz-trailer": " , "}, "InvalidRequest"),
    ],
)
def test_head_that_describes_no_body_is_refused(form, headers, code):
    with pytest.raises(ServiceError) as caught:
        opened(form, b"x", **headers)
    assert caught.value.code == code


def test_presigned_request_has_no_chunks():
    request = Request("PUT", "/b/k", {DIGEST: UNSIGNED_CHUNKS, LENGTH: "1", "content-length": "9"})
    with pytest.raises(ServiceError, match="must be UNSIGNED-PAYLOAD"):
        check_body(request, claim(expires=60))
