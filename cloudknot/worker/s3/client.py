"""The worker's side of S3: byte ranges in, packs out.

One client a process: it is made by `client` before the warm parent of the embedded cloud forks, so that a fork need
not make its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import chain
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..wire import buffers
from ..wire.buffers import Parts, Pieces, Unreachable, Unreadable, size_of
from . import get
from .range_file import RangeFile, span_of
from .retries import NO_RETRIES, Persistence, trouble_of

T = TypeVar("T")

PART_SIZE = 8 * 1024 * 1024
MAX_PARTS = 10_000
"""Bytes of a part, at the least, and parts of an object (S3 user guide, "Multipart upload limits")."""
PATIENCE = 600.0
"""Seconds for which a request is tried again: a result that took hours is not given up for a minute's trouble."""
_SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""What decides where requests go and whose they are."""
_connected: Any = None
_sse: str | None = None
EXISTS = "PreconditionFailed"
_patience = Persistence(PATIENCE)


def _persist(call: Callable[[], T]) -> T:
    """What the call returns, made again for as long as its trouble may pass. Then raises `Unreachable`."""
    try:
        return _patience.call(call)
    except Exception as error:
        if trouble_of(error) is None:
            raise
        raise Unreachable(f"S3 has not answered for {PATIENCE:.0f} s: {error}") from error


def connect() -> Any:
    """Take the S3 client of the environment as it is now: that of the container, before the function changes it."""
    global _connected
    _connected = _client(tuple(os.environ.get(name) for name in _SETTINGS))
    return _connected


def client() -> Any:
    """The process's S3 client."""
    return _connected or connect()


def encrypt(sse: str | None) -> None:
    """Ask for this server-side encryption with every object from now on."""
    global _sse
    _sse = sse


@cache
def _client(settings: tuple[str | None, ...]) -> Any:
    # A session of its own: boto3's default one would keep the credentials of an environment that has changed since.
    config = Config(retries=NO_RETRIES, connect_timeout=10, read_timeout=60, user_agent_extra=get.USER_AGENT)
    return boto3.Session().client("s3", config=config)


def warm_up() -> None:
    """Have everything that a request needs in memory, and no connection open."""
    get.request(connect(), "GET", "cloudknot-warm-up", "nothing", {})
    get.close()


def read(bucket: str, key: str, start: int = 0, end: int | None = None) -> bytes:
    """Bytes ``start`` to ``end`` (not included) of an object; all of it without ``end``."""
    if end is not None and end <= start:
        return b""
    span = span_of(start, end)

    def call() -> bytes:
        data: bytes = client().get_object(Bucket=bucket, Key=key, **span)["Body"].read()
        return data

    data = get.request(client(), "GET", bucket, key, span)
    return _persist(call) if data is None else data


def write(bucket: str, key: str, body: bytes) -> None:
    """Store one object, unless there is one of that key.

    An attempt that Batch believes dead may go on beside the next one: what the first of them stored stays, since
    somebody may have read it. A request that is repeated because its answer was lost finds its own object.
    """
    headers = {"x-amz-server-side-encryption": _sse} if _sse else {}
    if get.request(client(), "PUT", bucket, key, {**headers, "If-None-Match": "*"}, body) is None:
        asked = {"ServerSideEncryption": _sse} if _sse else {}
        try:
            _persist(lambda: client().put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", **asked))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != EXISTS:
                raise


def write_large(bucket: str, key: str, pieces: Pieces) -> None:
    """`write`, in parts, of which only one is in memory besides the pieces."""
    asked = {"ServerSideEncryption": _sse} if _sse else {}
    where = {"Bucket": bucket, "Key": key}
    upload = {**where, "UploadId": _persist(partial(client().create_multipart_upload, **where, **asked))["UploadId"]}
    try:
        parts = list(_upload_parts(upload, pieces))
        done = {"MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
        _persist(partial(client().complete_multipart_upload, **upload, **done))
    except BaseException as error:
        code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
        # S3 no longer knows an upload that was completed before, by a request whose answer was lost.
        if code == "NoSuchUpload" and _persist(partial(_exists, where)):
            return
        with suppress(ClientError, BotoCoreError):
            client().abort_multipart_upload(**upload)
        if code != EXISTS:
            raise


def _upload_parts(upload: dict[str, str], pieces: Pieces) -> Iterator[dict[str, Any]]:
    size = max(PART_SIZE, -(-size_of(pieces) // MAX_PARTS))
    parts = Parts(lambda number: size)
    full = chain.from_iterable(map(parts.cut, pieces))
    for number, part in enumerate(chain(full, iter(lambda: parts.rest(), bytearray())), start=1):
        answer = _persist(partial(client().upload_part, **upload, PartNumber=number, Body=part))
        yield {"PartNumber": number, "ETag": answer["ETag"]}


def _exists(where: dict[str, str]) -> bool:
    try:
        client().head_object(**where)
    except ClientError as error:
        # 403 where the job may list nothing: its role may read the key, so it is not there.
        if error.response.get("Error", {}).get("Code") in ("403", "404"):
            return False
        raise
    return True


def load(bucket: str, key: str, start: int, end: int) -> Any:
    """Unpickle what bytes ``start`` to ``end`` of an object hold, while they come.

    Raises `Unreadable` when they cannot be read.
    """

    def insist(call: Callable[[], T]) -> T:
        try:
            return _persist(call)
        except (ClientError, BotoCoreError, OSError) as error:
            raise Unreadable(f"{key} cannot be read: {error}") from error

    def ask(span: dict[str, str]) -> Any:
        return client().get_object(Bucket=bucket, Key=key, **span)["Body"]

    with insist(lambda: RangeFile(ask, insist, start, end)).buffered() as file:
        return buffers.load(file)


def keys(bucket: str, prefix: str, after: str, until: str) -> list[str]:
    """The keys under ``prefix`` that sort behind ``after`` and not behind ``until``."""
    return [item["Key"] for item in objects(bucket, prefix, after, until)]


def objects(bucket: str, prefix: str, after: str, until: str) -> list[dict[str, Any]]:
    """The objects of these keys as a listing shows them, with ``Key``, ``Size`` and ``LastModified``."""
    found: list[dict[str, Any]] = []
    where = {"Bucket": bucket, "Prefix": prefix, "StartAfter": after}
    while True:
        page = _persist(partial(client().list_objects_v2, **where))
        for item in page.get("Contents", ()):
            if item["Key"] > until:
                return found
            found.append(item)
        if not page.get("IsTruncated"):
            return found
        where["ContinuationToken"] = page["NextContinuationToken"]
