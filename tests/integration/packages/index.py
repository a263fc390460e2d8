"""A package index on this machine, with wheels and source archives that tests make up."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def wheel(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    code: str = "",
    python: str = "",
) -> tuple[str, bytes]:
    """Return the file name and the content of a wheel with one module."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {line}\n" for line in requires]
    metadata += [f"Requires-Python: {python}\n"] if python else []
    files = {
        f"{module}.py": code or f"__version__ = {version!r}\n",
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},{_record_hash(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{module}-{version}-{tag}.whl", content.getvalue()


def _record_hash(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def source_archive(name: str, version: str, *, requires: Sequence[str] = ()) -> tuple[str, bytes]:
    """Return the file name and the content of a source archive of setuptools with one module."""
    folder = f"{name}-{version}"
    setup = f"from setuptools import setup\nsetup(name={name!r}, version={version!r}, py_modules=[{name!r}]"
    files = {
        "setup.py": f"{setup}, install_requires={list(requires)!r})\n",
        f"{name}.py": f"__version__ = {version!r}\n",
        "PKG-INFO": "".join(
            [
                f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
                *(f"Requires-Dist: {line}\n" for line in requires),
            ]
        ),
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{folder}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{folder}.tar.gz", content.getvalue()


@dataclass
class PackageIndex:
    """A running index. With a ``login``, it answers only requests that carry it."""

    port: int
    login: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    hashes: bool = True
    """Whether pages contain the hashes of the files."""
    authorizations: list[str | None] = field(default_factory=list)
    answers: bool = True
    redirects_to: PackageIndex | None = None
    """An index that all files come from."""
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address of the index, without the login."""
        return f"http://127.0.0.1:{self.port}/simple"

    @property
    def url_with_login(self) -> str:
        return f"http://{self.login}@127.0.0.1:{self.port}/simple"

    def add(self, *files: tuple[str, bytes]) -> None:
        """Offer some files."""
        self.files |= dict(files)

    def page(self, project: str) -> bytes | None:
        """Return the page of a project; None if the index does not have it."""
        names = [name for name in self.files if name.rpartition("-")[0] and _project(name) == project]
        links = [f'<a href="/files/{name}{self._hash(name)}">{name}</a>' for name in names]
        return f"<html><body>{'<br>'.join(links)}</body></html>".encode() if names else None

    def _hash(self, name: str) -> str:
        return f"#sha256={hashlib.sha256(self.files[name]).hexdigest()}" if self.hashes else ""


def _project(filename: str) -> str:
    stem = filename.removesuffix(".tar.gz").split("-")
    name = stem[0] if filename.endswith(".whl") else "-".join(stem[:-1])
    return name.replace("_", "-").lower()


@contextlib.contextmanager
def package_index(*files: tuple[str, bytes], login: str = "", hashes: bool = True) -> Iterator[PackageIndex]:
    """Run an index with some files."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.requests.append(self.path)
            index.authorizations.append(self.headers.get("Authorization"))
            if not index.answers:
                self._answer(503, b"come back later")
                return
            expected = f"Basic {base64.b64encode(login.encode()).decode()}"
            if login and self.headers.get("Authorization") != expected:
                self._answer(401, b"login, please", {"WWW-Authenticate": 'Basic realm="packages"'})
                return
            _, kind, name, *_ = [*self.path.partition("?")[0].split("/"), "", ""]
            if kind == "files" and index.redirects_to:
                self._answer(302, b"", {"Location": f"http://127.0.0.1:{index.redirects_to.port}{self.path}"})
                return
            body = index.files.get(name) if kind == "files" else index.page(name)
            if body is None:
                self._answer(404, b"no such page")
                return
            self._answer(200, body, {"Content-Type": "text/html" if kind == "simple" else "application/octet-stream"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index = PackageIndex(server.server_address[1], login, dict(files), hashes)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
