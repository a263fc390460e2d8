"""A container registry in this process that fails as it is asked to, and records its requests."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BLOCK = 1 << 16
USER, PASSWORD = "anna", "pa:ss word"


@dataclass
class Fault:
    """A failure of the next ``times`` requests with this method, and a path in which ``path`` is found.

    Attributes
    ----------
    status : int
        The answer, in place of the operation. 0 breaks the connection.
    after : int
        Bytes of the body of the request or of the answer that still pass.
    done : bool
        Whether the operation is carried out before.
    wait : float
        Seconds until the failure, unless the registry ends.
    """

    method: str
    path: str = ""
    times: int = 1
    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    after: int = 0
    done: bool = False
    wait: float = 0.0


@dataclass
class _Upload:
    content: bytearray | None
    size: int = 0
    first: int = 0
    hash: object = field(default_factory=hashlib.sha256)

    def add(self, block):
        self.size += len(block)
        self.hash.update(block)
        if self.content is not None:
            self.content += block


class RegistryServer:
    """A registry, and a context manager.

    Parameters
    ----------
    kind : str
        ``"plain"`` follows the specification; ``"ecr"`` deviates from it as Amazon ECR does; ``"forgetful"`` cancels
        an upload whose chunk was cut, as docker-registry 2.8 does.
    login : str
        ``""``, ``"Basic"`` or ``"Bearer"``: how it demands the login of `USER`.
    keep : bool
        Whether it keeps the content of blobs, or their digests only.
    tls : SSLContext, optional
        Its certificate. Without one, it does not encrypt.

    Attributes
    ----------
    requests : list of tuple
        Method, path, headers of each request.
    faults : list of Fault
    received : int
        Bytes in the bodies of uploads.
    token_uses : int
        Requests until a token has expired.
    """

    def __init__(self, kind="plain", login="", keep=True, tls=None):
        self.kind, self.login, self.keep = kind, login, keep
        self.lock, self.ended = threading.RLock(), threading.Event()
        self.blobs, self.manifests, self.uploads, self.broken = {}, {}, {}, set()
        self.requests, self.faults, self.received = [], [], 0
        self.tokens, self.token_uses, self.storage, self.ignores_ranges = Counter(), 10**9, "", False
        self.least_chunk = ""
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        # A client that refuses the certificate breaks the connection.
        self._server.handle_error = lambda request, address: None
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self):
        return f"127.0.0.1:{self._server.server_port}"

    def add(self, repository, content):
        """Store a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[repository, digest] = content
        return digest

    def count(self, method, path=""):
        """Return the number of requests with a method, and a path in which ``path`` is found."""
        return sum(one == method and re.search(path, other) is not None for one, other, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry = None

    def log_message(self, *arguments):
        pass

    def _handle(self):
        server = self.registry
        with server.lock:
            server.requests.append((self.command, self.path, dict(self.headers)))
            matching = (
                f for f in server.faults if f.times and f.method == self.command and re.search(f.path, self.path)
            )
            fault = next(matching, None)
            if fault:
                fault.times -= 1
        self.fault, self.left = fault, int(self.headers.get("Content-Length", 0))
        if fault:
            server.ended.wait(fault.wait)
        with contextlib.suppress(OSError):
            if fault and not fault.done and (fault.status or not fault.after):
                self._fail()
            elif self._is_allowed():
                self._dispatch()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _fail(self):
        if not self.fault.status:
            self.close_connection = True
            return
        self._read()
        self._answer(self.fault.status, self.fault.headers, self.fault.body)

    def _read(self):
        return b"".join(self._blocks())

    def _blocks(self):
        """Yield the body of the request. Break the connection where the fault says."""
        cut = self.fault.after if self.fault and not self.fault.status and not self.fault.done else None
        while self.left:
            size = min(BLOCK, self.left, BLOCK if cut is None else cut)
            if not size:
                raise ConnectionAbortedError
            block = self.rfile.read(size)
            if not block:
                raise ConnectionAbortedError
            self.left -= len(block)
            cut = None if cut is None else cut - len(block)
            yield block

    def _answer(self, status, headers=None, body=b""):
        fault = self.fault
        if fault and fault.done:
            self.close_connection = True
            return
        # A client that was refused early must still be able to read the answer.
        self._read() if self.left else None
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            cut = fault.after if fault and not fault.status and self.command == "GET" else None
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None and cut < len(body)

    def _error(self, status, code, message="", headers=None):
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
        self._answer(status, headers, body)

    def _is_allowed(self):
        server, path = self.registry, urlsplit(self.path)
        basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        given = self.headers.get("Authorization", "")
        if path.path == "/token":
            if given not in ("", basic):
                return self._error(401, "UNAUTHORIZED")
            token = f"token-{uuid.uuid4()}"
            server.tokens[f"Bearer {token}"] = server.token_uses
            return self._answer(200, {}, json.dumps({"token": token}).encode())
        if not server.login or not path.path.startswith("/v2/"):
            return True
        with server.lock:
            server.tokens[given] -= 1
            if (given == basic and server.login == "Basic") or (
                server.login == "Bearer" and server.tokens[given] >= 0
            ):
                return True
        challenge = {
            "Basic": 'Basic realm="registry"',
            "Bearer": f'Bearer realm="http://{server.address}/token",service="registry",scope="repository:x:pull"',
        }[server.login]
        return self._error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    def _dispatch(self):
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if found := re.fullmatch(r"/v2/(.+)/blobs/uploads/([\w-]*)", path):
            getattr(self, f"_upload_{self.command.lower()}")(found[1], found[2], query)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:\w+)", path):
            self._blob(found[1], found[2])
        elif found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self._manifest(found[1], found[2])
        elif found := re.fullmatch(r"/storage/(.+)/(sha256:\w+)", path):
            self._content(self.registry.blobs[found[1], found[2]])
        else:
            self._answer(200, {}, b"{}")

    def _blob(self, repository, digest):
        content = self.registry.blobs.get((repository, digest))
        if content is None:
            self._error(404, "BLOB_UNKNOWN")
        elif self.registry.storage and self.command == "GET":
            self._answer(307, {"Location": f"http://{self.registry.storage}/storage/{repository}/{digest}"})
        else:
            self._content(content)

    def _content(self, content):
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not found or self.registry.ignores_ranges:
            return self._answer(200, {}, content)
        start = int(found[1])
        self._answer(206, {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:])

    def _manifest(self, repository, reference):
        if self.command == "PUT":
            body = self._read()
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            for name in (reference, digest):
                self.registry.manifests[repository, name] = (self.headers["Content-Type"], body)
            return self._answer(201, {"Docker-Content-Digest": digest})
        found = self.registry.manifests.get((repository, reference))
        if found is None:
            return self._error(404, "MANIFEST_UNKNOWN")
        digest = f"sha256:{hashlib.sha256(found[1]).hexdigest()}"
        return self._answer(200, {"Content-Type": found[0], "Docker-Content-Digest": digest}, found[1])

    def _upload_post(self, repository, _, query):
        if "mount" in query and (query["from"][0], query["mount"][0]) in self.registry.blobs:
            content = self.registry.blobs[query["from"][0], query["mount"][0]]
            self.registry.blobs[repository, query["mount"][0]] = content
            return self._answer(201, {"Docker-Content-Digest": query["mount"][0]})
        name = str(uuid.uuid4())
        self.registry.uploads[name] = _Upload(bytearray() if self.registry.keep else None)
        headers = {"OCI-Chunk-Min-Length": self.registry.least_chunk} if self.registry.least_chunk else {}
        return self._answer(202, {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=0", **headers})

    def _upload_get(self, repository, name, _):
        upload = self._known(name)
        if upload and self.registry.kind == "ecr":
            return self._answer(404, {}, b"404 page not found\n")
        return upload and self._answer(204, self._where(repository, name, upload))

    def _upload_patch(self, repository, name, _):
        upload, ecr = self._known(name), self.registry.kind == "ecr"
        if upload is None:
            return None
        start, end = map(int, self.headers["Content-Range"].split("-"))
        if start != upload.size:
            message = f"First byte of the layer part is {start} instead of {upload.size}" if ecr else ""
            headers = {} if ecr else self._where(repository, name, upload)
            return self._error(416, "BLOB_UPLOAD_INVALID", message, headers)
        assert end - start + 1 == self.left <= 20 << 20
        self._receive(upload, name)
        upload.first = upload.first or upload.size
        headers = self._where(repository, name, upload)
        # ECR's range stays at the end of the first chunk.
        return self._answer(201 if ecr else 202, {**headers, "Range": f"0-{upload.first - 1}"} if ecr else headers)

    def _upload_put(self, repository, name, query):
        upload = self._known(name)
        if upload is None:
            return None
        self._receive(upload, name)
        digest = query["digest"][0]
        if digest != f"sha256:{upload.hash.hexdigest()}":
            return self._error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.registry.uploads.pop(name)
        self.registry.blobs[repository, digest] = bytes(upload.content or b"")
        return self._answer(201, {"Docker-Content-Digest": digest})

    def _receive(self, upload, name):
        for block in self._broken_marked(name):
            upload.add(block)
            with self.registry.lock:
                self.registry.received += len(block)

    def _broken_marked(self, name):
        try:
            yield from self._blocks()
        except OSError:
            self.registry.broken.add(name)
            self.close_connection = True
            raise

    def _known(self, name):
        if self.registry.kind == "forgetful" and name in self.registry.broken:
            self.registry.uploads.pop(name, None)
        if name not in self.registry.uploads:
            self._error(404, "BLOB_UPLOAD_UNKNOWN")
        return self.registry.uploads.get(name)

    def _where(self, repository, name, upload):
        state = f"/v2/{repository}/blobs/uploads/{name}?state={upload.size}"
        return {"Location": state, "Range": f"0-{max(upload.size - 1, 0)}"}
