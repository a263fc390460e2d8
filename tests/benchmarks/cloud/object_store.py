"""Measure the object store through its HTTP server, beside moto's S3 in the same run.

    python -m tests.benchmarks.cloud.object_store
    python -m tests.benchmarks.cloud.object_store --size 4096 --rounds 5

One thread sends and receives a large object over one connection, without a digest of the body: SHA-256 alone is
slower than the server on many machines. Small requests come from several threads, each with its own connection.
The two servers take turns. Last comes the bare disk: a file that is written and synced at once, and while it grows.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import cloudknot as ck
from cloudknot.local.directory.state import REGION, read_state
from tests.benchmarks.cloud.element_cost import accounts
from tests.helpers.waiting import until

MIB = 1 << 20
BUCKET = "benchmark"
BLOCK = memoryview(os.urandom(MIB))
SMALL = bytes(BLOCK[:1024])
THREADS = 8


class UnsignedBody(S3SigV4Auth):
    """Signs the head of a request only."""

    def payload(self, request: AWSRequest) -> str:
        """Return the header ``x-amz-content-sha256``."""
        return "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    name: str
    endpoint: str
    pid: int
    credentials: Credentials

    def memory(self) -> float:
        """Return the peak of its resident memory in MB."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        match = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert match
        return int(match[1]) / 1000

    def cpu(self) -> float:
        """Return its CPU time in seconds."""
        return accounts(self.pid)[0]

    def connect(self) -> Connection:
        """Return a new connection."""
        return Connection(self)


class Connection:
    """A connection for signed requests."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._http = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=600)

    def send(self, method: str, path: str, body: bytes | Iterator[memoryview] = b"", size: int | None = None) -> bytes:
        """Send a request, and return the body of the answer."""
        answer = self._answer(method, path, body, size)
        content = answer.read()
        assert answer.status < 300, content
        return content

    def receive(self, path: str) -> int:
        """Download an object into a buffer that is used again. Return its size."""
        answer, buffer, size = self._answer("GET", path, b"", 0), bytearray(MIB), 0
        assert answer.status == 200
        while count := answer.readinto(buffer):
            size += count
        return size

    def _answer(
        self, method: str, path: str, body: bytes | Iterator[memoryview], size: int | None
    ) -> http.client.HTTPResponse:
        length = len(body) if isinstance(body, bytes) else size
        request = AWSRequest(method, f"{self._server.endpoint}{path}", {"Content-Length": str(length)})
        UnsignedBody(self._server.credentials, "s3", REGION).add_auth(request)
        self._http.request(method, path, body, dict(request.headers.items()))
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._http.getresponse()


@contextmanager
def own_server(directory: Path) -> Iterator[S3Server]:
    """Run an embedded cloud."""
    with ck.LocalCloud(directory) as cloud:
        cloud.call("sts", "get_caller_identity")
        state = read_state(directory)
        assert state is not None
        yield S3Server("embedded cloud", state.endpoint, state.pid, Credentials(state.access_key, state.secret_key))


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto's own server."""
    program = (
        "import time; from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(port=0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); time.sleep(1e6)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield S3Server("moto", endpoint, process.pid, Credentials("AKIAIOSFODNN7EXAMPLE", "secret"))
    finally:
        process.kill()
        process.communicate()


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def large(server: S3Server, size: int) -> dict[str, float]:
    """Return MB/s of one PUT and one GET of ``size`` MiB, and the CPU seconds of the server for each GB."""
    connection, path = server.connect(), f"/{BUCKET}/large"
    before = server.cpu()
    put = timed(lambda: connection.send("PUT", path, itertools.repeat(BLOCK, size), size * MIB))
    between = server.cpu()
    get = timed(lambda: connection.receive(path))
    after, amount = server.cpu(), size * MIB / 1e6
    return {
        "PUT, MB/s": amount / put,
        "GET, MB/s": amount / get,
        "PUT, CPU s a GB": 1e3 * (between - before) / amount,
        "GET, CPU s a GB": 1e3 * (after - between) / amount,
    }


def small(server: S3Server, count: int) -> dict[str, float]:
    """Return requests a second, and the server's CPU milliseconds for each, by kind of request."""
    connections = [server.connect() for _ in range(THREADS)]

    def each(method: str, body: bytes) -> None:
        def one(thread: int) -> None:
            for number in range(count // THREADS):
                connections[thread].send(method, f"/{BUCKET}/small/{thread}-{number:05}", body)

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(one, range(THREADS)))

    def pages() -> None:
        for _ in range(pages_count):
            connections[0].send("GET", f"/{BUCKET}?list-type=2&prefix=small%2F")

    pages_count = max(1, count // 100)
    figures = {}
    for name, call, requests in (
        ("PUT of 1 KB", lambda: each("PUT", SMALL), count),
        ("GET of 1 KB", lambda: each("GET", b""), count),
        ("page of 1,000 keys", pages, pages_count),
        ("DELETE", lambda: each("DELETE", b""), count),
    ):
        before = server.cpu()
        seconds = timed(call)
        figures[f"{name}, a second"] = requests / seconds
        figures[f"{name}, CPU ms"] = 1e3 * (server.cpu() - before) / requests
    return figures


def bare_disk(directory: Path, size: int) -> None:
    """Print the speed of writing and syncing a file without a server."""
    for name, every in (("synced at the end", 0), ("synced while it grows", 16)):
        path = directory / "bare"
        with path.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as syncs:

            def write(file=file, syncs=syncs, every=every) -> None:  # type: ignore[no-untyped-def]
                for number in range(size):
                    file.write(BLOCK)
                    if every and number % every == every - 1:
                        syncs.submit(os.fdatasync, file.fileno())
                syncs.submit(os.fsync, file.fileno()).result()

            print(f"  a file, {name:22} {size * MIB / 1e6 / timed(write):8.0f} MB/s")
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large object")
    parser.add_argument("--count", type=int, default=2000, help="small requests of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: a temporary one")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.directory) as scratch,
        own_server(Path(scratch) / "cloud") as own,
        moto_server() as moto,
    ):
        rounds: dict[str, list[dict[str, float]]] = {own.name: [], moto.name: []}
        for server in (own, moto):
            until(lambda server=server: server.connect().send("PUT", f"/{BUCKET}") == b"")
        for _ in range(arguments.rounds):
            for server in (own, moto):
                figures = {**large(server, arguments.size), **small(server, arguments.count)}
                rounds[server.name].append({**figures, "peak memory, MB": server.memory()})
        print(f"{arguments.size} MiB, {arguments.count} small requests, medians of {arguments.rounds}")
        print(f"  {'':32} {own.name:>16} {moto.name:>16}")
        for name in rounds[own.name][0]:
            own_median, moto_median = (statistics.median(one[name] for one in rounds[s.name]) for s in (own, moto))
            print(f"  {name:32} {own_median:16.3f} {moto_median:16.3f}")
        bare_disk(Path(scratch), arguments.size)


if __name__ == "__main__":
    main()
