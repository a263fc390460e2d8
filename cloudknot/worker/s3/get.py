"""S3 requests with botocore's signature and the standard library's HTTP, for the common case that all goes well.

boto3's own way through its service model touches so many pages of memory that, in a process forked for a single
element, the first request costs several milliseconds, most of them spent on copying those pages. Whatever does not
succeed here is left to boto3, which knows why and what to do about it.
"""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from .retries import trouble_of

BODY_LIMIT = 1024 * 1024
"""Bytes of a body that is signed whole; boto3 streams a larger one with a checksum."""
TIMEOUT = 60.0
USER_AGENT = "cloudknot-worker"
"""So that whoever counts requests knows them."""

_local = threading.local()


def request(
    client: Any, method: str, bucket: str, key: str, headers: dict[str, str], body: bytes = b""
) -> bytes | None:
    """The body of the answer; None unless the request succeeded.

    Parameters
    ----------
    client : boto3 client of S3
        Gives endpoint, region and credentials.
    method : str
        ``"GET"`` or ``"PUT"``.
    bucket, key : str
    headers : dict
        Sent, and signed, besides those that a signature needs.
    body : bytes
        At most `BODY_LIMIT`.
    """
    url = f"{client.meta.endpoint_url}/{bucket}/{quote(key)}"
    signed = AWSRequest(method, url, headers=headers, data=body)
    credentials = _credentials(client)
    if credentials is None or len(body) > BODY_LIMIT:
        return None
    S3SigV4Auth(credentials, "s3", client.meta.region_name).add_auth(signed)
    connection = _connection(url)
    try:
        connection.request(method, urlsplit(url).path, body or None, {**signed.headers, "User-Agent": USER_AGENT})
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, HTTPException):
        close()
        return None
    return data if answer.status in (200, 206) else None


def _credentials(client: Any) -> Any:
    """The client's credentials; None when there are none, or none at the moment."""
    credentials = client._request_signer._credentials
    try:
        return credentials and credentials.get_frozen_credentials()
    except Exception as error:
        if trouble_of(error) is None:
            raise
        return None


def close() -> None:
    """Close this thread's connection."""
    connection = getattr(_local, "connection", None)
    if connection is not None:
        connection.close()
        _local.connection = None


def _connection(url: str) -> HTTPConnection:
    """This thread's connection, kept open between requests."""
    parts = urlsplit(url)
    if getattr(_local, "connection", None) is None or _local.netloc != parts.netloc:
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        _local.connection, _local.netloc = kind(parts.netloc, timeout=TIMEOUT), parts.netloc
    connection: HTTPConnection = _local.connection
    return connection
