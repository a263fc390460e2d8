"""The worker's side of S3: byte ranges in, packs out.

One client a process: it is made by `client` before the warm parent of the embedded cloud forks, so that a fork need
not make its own.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from . import plain
from .persistence import NO_RETRIES, Persistence

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
_persist = Persistence(PATIENCE).call


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
    config = Config(retries=NO_RETRIES, connect_timeout=10, read_timeout=60, user_agent_extra=plain.USER_AGENT)
    return boto3.Session().client("s3", config=config)


def warm_up() -> None:
    """Have everything that a request needs in memory, and no connection open."""
    plain.request(connect(), "GET", "cloudknot-warm-up", "nothing", {})
    plain.close()


def read(bucket: str, key: str, start: int = 0, end: int | None = None) -> bytes:
    """Bytes ``start`` to ``end`` (not included) of an object; all of it without ``end``."""
    if end is not None and end <= start:
        return b""
    span = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}

    def call() -> bytes:
        data: bytes = client().get_object(Bucket=bucket, Key=key, **span)["Body"].read()
        return data

    data = plain.request(client(), "GET", bucket, key, dict(span))
    return _persist(call) if data is None else data


def write(bucket: str, key: str, body: bytes) -> None:
    """Store one object, unless there is one of that key.

    An attempt that Batch believes dead may go on beside the next one: what the first of them stored stays, since
    somebody may have read it. A request that is repeated because its answer was lost finds its own object.
    """
    headers = {"x-amz-server-side-encryption": _sse} if _sse else {}
    if plain.request(client(), "PUT", bucket, key, {**headers, "If-None-Match": "*"}, body) is None:
        asked = {"ServerSideEncryption": _sse} if _sse else {}
        try:
            _persist(lambda: client().put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", **asked))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != EXISTS:
                raise


def keys(bucket: str, prefix: str, after: str, until: str) -> list[str]:
    """The keys under ``prefix`` that sort behind ``after`` and not behind ``until``."""
    found: list[str] = []
    where = {"Bucket": bucket, "Prefix": prefix, "StartAfter": after}
    while True:
        page = _persist(partial(client().list_objects_v2, **where))
        for item in page.get("Contents", ()):
            if item["Key"] > until:
                return found
            found.append(item["Key"])
        if not page.get("IsTruncated"):
            return found
        where["ContinuationToken"] = page["NextContinuationToken"]
