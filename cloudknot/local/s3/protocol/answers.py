"""Answers of S3: status, headers, and a body that is XML, bytes, or ranges of files."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from wsgiref.types import StartResponse
from xml.sax.saxutils import escape

from cloudknot.local.s3.errors import S3Error
from cloudknot.local.wsgi import STATUSES, FileBody, ServiceError

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile("[&<>\r]")


@dataclass(frozen=True)
class Reply:
    """An answer. ``length`` is that of an object whose head is answered without its body."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | FileBody = b""
    length: int | None = None

    def send(self, start_response: StartResponse, is_head: bool) -> Iterable[bytes]:
        """Send status and headers, and return the body."""
        body, length = self.body, self.length
        if length is None:
            length = len(body) if isinstance(body, bytes) else sum(part.length for part in body.segments)
        # Neither status has a body. With a length, a client would wait for one.
        lengths = [] if self.status in (204, 304) else [("Content-Length", str(length))]
        start_response(STATUSES[self.status], [*request_ids(), *self.headers, *lengths])
        if is_head or not length:
            if isinstance(body, FileBody):
                body.close()
            return []
        return [body] if isinstance(body, bytes) else body


def request_ids() -> list[tuple[str, str]]:
    """Return the headers by which clients recognise an answer of S3."""
    number = secrets.token_hex(8).upper()
    return [("x-amz-request-id", number), ("x-amz-id-2", number)]


def xml_reply(root: str, content: Mapping[str, object], headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """Return an answer with an XML document."""
    return text_reply(f"{document(root)}{''.join(elements(content))}</{root}>", headers)


def document(root: str) -> str:
    """Return the beginning of an XML document, with the start tag of its root."""
    return f'{_DECLARATION}<{root} xmlns="{NAMESPACE}">'


def text_reply(body: str, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """Return an answer with XML that is written already."""
    return Reply(200, [("Content-Type", "application/xml"), *headers], body.encode())


def error_reply(error: ServiceError, resource: str) -> Reply:
    """Return the answer to a request that S3 refuses."""
    headers = [("Content-Type", "application/xml")]
    # Other errors appear while a body arrives that is not the signed one.
    if isinstance(error, S3Error) and error.resource:
        resource = error.resource
    if isinstance(error, S3Error) and error.marker:
        headers += [("x-amz-delete-marker", "true"), ("x-amz-version-id", error.marker)]
    content = "".join(elements({"Code": error.code, "Message": error, "Resource": resource}))
    return Reply(error.status, headers, f"{_DECLARATION}<Error>{content}</Error>".encode())


def elements(content: Mapping[str, object]) -> Iterator[str]:
    """Yield the XML of elements. An element whose content is None is left out."""
    for name, value in content.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None:
                continue
            if isinstance(item, Mapping):
                yield f"<{name}>{''.join(elements(item))}</{name}>"
            else:
                text = str(item).lower() if isinstance(item, bool) else escaped(str(item))
                yield f"<{name}>{text}</{name}>"


def escaped(text: str) -> str:
    """Return a text for XML."""
    # A parser of XML turns a carriage return into a line feed, unless it is written as a reference.
    return escape(text, {"\r": "&#13;"}) if _SPECIAL.search(text) else text


@lru_cache(maxsize=1024)
def http_time(seconds: int) -> str:
    """Return a time in HTTP's form."""
    return formatdate(seconds, usegmt=True)


@lru_cache(maxsize=1024)
def xml_time(seconds: int) -> str:
    """Return a time in the form of S3's documents. S3 knows whole seconds only."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.000Z"


@lru_cache(maxsize=64)
def canonical_id(account: str) -> str:
    """Return the id of an account in lists of owners and grants."""
    return hashlib.sha256(account.encode()).hexdigest()
