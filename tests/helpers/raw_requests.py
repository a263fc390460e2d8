"""HTTP requests of any form, byte by byte, with a valid AWS signature. No AWS client sends most of them."""

import contextlib
import hashlib
import hmac
import socket
import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from botocore.utils import normalize_url_path

from tests.helpers.waiting import LONG

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/x-amz-json-1.1")


@dataclass(frozen=True)
class Answer:
    """The status and the body of an answer. The status is 0 if the server closed the connection without one."""

    status: int
    body: bytes

    @property
    def is_refusal(self):
        return 400 <= self.status < 500


@dataclass(frozen=True)
class Key:
    """An access key that signs requests to one server, named by host and port.

    The signature is written out here, and shares no code with the server that verifies it.
    """

    host: str
    access_key: str
    secret_key: str
    token: str | None = None

    def request(self, method, uri, *headers, body=b"", service="s3", **choices):
        """Return a signed request. ``choices`` are those of `signed`, and ``length=False`` sends no Content-Length."""
        length = choices.pop("length", True) and (body or method in ("POST", "PUT"))
        lengths = [("Content-Length", str(len(body)))] if length else []
        return raw(method, uri, *self.signed(method, uri, *headers, body=body, service=service, **choices), *lengths)(
            body
        )

    def signed(
        self, method, uri, *headers, body=b"", service="s3", region="us-east-1", host=None, digest=None, suffix=""
    ):
        """Return all headers of a request with its signature.

        ``digest`` replaces the SHA-256 of the body. ``suffix`` follows the signature in the header Authorization.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body).hexdigest() if digest is None else digest
        own = [("Host", host or self.host), ("X-Amz-Date", now)]
        own += [("X-Amz-Security-Token", self.token)] if self.token else []
        own += [("X-Amz-Content-SHA256", digest)] if service == "s3" else []
        signature, names, scope = self._sign(method, uri, [*own, *headers], digest, service, region, now)
        claim = f"Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return [*own, *headers, ("Authorization", f"AWS4-HMAC-SHA256 {claim}{suffix}")]

    def presigned(self, method, uri, *headers, service="s3", region="us-east-1"):
        """Return a URI with its signature in the query. It is valid for a minute."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = ";".join(sorted({"host", *(name.lower() for name, _ in headers)}))
        fields = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{now[:8]}/{region}/{service}/aws4_request",
            "X-Amz-Date": now,
            "X-Amz-Expires": "60",
            "X-Amz-SignedHeaders": names,
            **({"X-Amz-Security-Token": self.token} if self.token else {}),
        }
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())
        uri = f"{uri}{'&' if '?' in uri else '?'}{query}"
        all_headers = [("Host", self.host), *headers]
        digest = "UNSIGNED-PAYLOAD" if service == "s3" else hashlib.sha256().hexdigest()
        signature, _, _ = self._sign(method, uri, all_headers, digest, service, region, now)
        return f"{uri}&X-Amz-Signature={signature}"

    def _sign(self, method, uri, headers, digest, service, region, now):
        path, _, query = uri.partition("?")
        path = path if service == "s3" else quote(normalize_url_path(path), safe="/~")
        pairs = sorted(tuple(part.partition("=")[::2]) for part in query.split("&")) if query else []
        values = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(" ".join(value.split()))
        lines = [f"{name}:{', '.join(values[name])}\n" for name in sorted(values)]
        names = ";".join(sorted(values))
        query = "&".join(f"{name}={value}" for name, value in pairs)
        canonical = f"{method}\n{path}\n{query}\n{''.join(lines)}\n{names}\n{digest}"
        scope = f"{now[:8]}/{region}/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode('latin-1')).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex(), names, f"{self.access_key}/{scope}".partition("/")[2]


def raw(method, uri, *headers):
    """Return a function that adds a body to the head of a request."""
    lines = [f"{method} {uri} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    return lambda body=b"": "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def key_of(cloud):
    """Return the key that a cloud object signs with."""
    variables = cloud.environment()
    return Key(
        urlsplit(variables["AWS_ENDPOINT_URL"]).netloc,
        variables["AWS_ACCESS_KEY_ID"],
        variables["AWS_SECRET_ACCESS_KEY"],
        variables.get("AWS_SESSION_TOKEN"),
    )


def connected(host):
    """Return a connection to a server."""
    name, port = host.split(":")
    return socket.create_connection((name, int(port)), timeout=LONG)


def send(host, request):
    """Send the bytes of a request, and return the answer."""
    with connected(host) as connection:
        # The server may refuse a request before it has arrived.
        with contextlib.suppress(OSError):
            connection.sendall(request)
        return read_answer(connection)


def read_answer(connection):
    """Read an answer until the server closes the connection."""
    data = b""
    try:
        while part := connection.recv(1 << 16):
            data += part
    except ConnectionError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]) if head else 0, body)
