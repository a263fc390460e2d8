"""The worker's side of S3: byte ranges in, packs out.

One client a process: it is made by `client` before the warm parent of the embedded cloud forks, so that a fork need
not make its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from . import plain

T = TypeVar("T")

ROUNDS = 6
FIRST_PAUSE = 0.5
_SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
_connected: Any = None
_sse: str | None = None
EXISTS = "PreconditionFailed"
PERMANENT = {EXISTS, "AccessDenied", "NoSuchBucket", "NoSuchKey", "404", "403", "InvalidRange"}


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
    retries = {"mode": "standard", "total_max_attempts": 5}
    config = Config(retries=retries, connect_timeout=10, read_timeout=60, user_agent_extra=plain.USER_AGENT)
    return boto3.Session().client("s3", config=config)


def warm_up() -> None:
    """Have everything that a request needs in memory, and no connection open."""
    plain.request(connect(), "GET", "cloudknot-warm-up", "nothing", {})
    plain.close()


def _persist(call: Callable[[], T]) -> T:
    """Repeat a call that S3 or the network refused, for about half a minute in all.

    botocore's own retries share one quota among all calls of a client, which runs dry when many calls fail.
    """
    for pause in (FIRST_PAUSE * 2**n for n in range(ROUNDS - 1)):
        try:
            return call()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in PERMANENT:
                raise
        except BotoCoreError:
            pass
        time.sleep(pause)
    return call()


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

    def call() -> list[str]:
        found: list[str] = []
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, StartAfter=after):
            for item in page.get("Contents", ()):
                if item["Key"] > until:
                    return found
                found.append(item["Key"])
        return found

    return _persist(call)
