"""The request that moto gets: written anew from the one reading, so that moto cannot read anything else."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from cloudknot.local.directory.state import REGION
from cloudknot.local.iam.requests.calls import Call
from cloudknot.local.iam.requests.received import Unread, received
from cloudknot.local.iam.signing import Body, Request

_FORM, _JSON = "application/x-www-form-urlencoded", "application/x-amz-json-1.1"


@dataclass(frozen=True)
class _Rendered:
    """A request in HTTP's own parts. ``headers`` lacks those that describe the body."""

    method: str
    uri: str
    headers: Mapping[str, str]
    body: Body
    length: int
    content_type: str


def service_environ(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return WSGI variables with nothing but the request that was read."""
    found = received(environ)
    target = found.target
    if isinstance(target, Call):
        rendered = _call(target)
    else:
        assert isinstance(target, Unread)
        rendered = _unread(target.request)
    path, _, query = rendered.uri.partition("?")
    scope = f"{found.access_key}/20260101/{REGION}/{found.service}/aws4_request"
    return {
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in rendered.headers.items()},
        "REQUEST_METHOD": rendered.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        # werkzeug's name for the raw path.
        "RAW_URI": rendered.uri,
        "REQUEST_URI": rendered.uri,
        "QUERY_STRING": query,
        "CONTENT_TYPE": rendered.content_type,
        "CONTENT_LENGTH": str(rendered.length),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        # The gate accepts loopback only, so no name of a bucket can be in it.
        "HTTP_HOST": environ.get("HTTP_HOST", "127.0.0.1"),
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": rendered.body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _call(call: Call) -> _Rendered:
    headers = {"x-amz-target": call.target} if call.target else {}
    body = call.body
    return _Rendered("POST", "/", headers, io.BytesIO(body), len(body), _FORM if call.version else _JSON)


def _unread(request: Request) -> _Rendered:
    """Return a request of the cloud's owner, who may do everything, as it arrived."""
    described = ("content-type", "content-length")
    headers = {name: value for name, value in request.headers.items() if name not in described}
    content_type = request.headers.get("content-type", "")
    return _Rendered(request.method, request.uri, headers, request.body, request.length, content_type)
