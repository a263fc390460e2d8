"""Half-sent and unsigned requests hold up nobody, and their bodies are stored nowhere."""

import contextlib
import hashlib
import os
import re
import resource
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from waitress.channel import ClientDisconnected

from cloudknot.local.iam.gate import LONGEST_CALL, Admission
from cloudknot.local.iam.signing import Request
from cloudknot.local.server.http.connections import Limits
from cloudknot.local.server.http.server import MAX_CONNECTIONS, THREADS, http_server
from cloudknot.local.wsgi import BLOCK, FileBody, Segment
from tests.helpers.raw_requests import FORM, Key, connected, key_of, raw, read_answer, send
from tests.helpers.waiting import LONG, until

LARGE = 4 << 20
"""Bytes."""
CUT = 3 << 20


def stored_bytes(pid):
    """Return the bytes in deleted files that a process holds open: the temporary files of bodies."""
    sizes = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor).endswith("(deleted)"):
                sizes.append(descriptor.stat().st_size)
        except FileNotFoundError:
            pass
    return sum(sizes)


def settled_bytes(pid):
    """Return `stored_bytes` once it has not changed for a while. Other tests have stored large objects, too."""
    sizes = [-1, -2]
    while len(set(sizes[-3:])) > 1:
        sizes.append(stored_bytes(pid))
        time.sleep(0.1)
    return sizes[-1]


def put(key, body, **choices):
    return key.request("PUT", "/uploads/k", body=body, **choices)


UNSIGNED = {
    "no signature": lambda key, body: raw("PUT", "/uploads/k", ("Host", key.host), ("Content-Length", str(len(body))))(
        body
    ),
    "wrong secret": lambda key, body: put(Key(key.host, key.access_key, "wrong"), body),
    "unknown key": lambda key, body: put(Key(key.host, "AKIANOBODY", "wrong"), body),
    "unknown key of another service": lambda key, body: Key(key.host, "AKIANOBODY", "x").request(
        "POST", "/", FORM, body=body, service="sts"
    ),
    "no digest": lambda key, body: put(key, body, digest=""),
    "another host": lambda key, body: put(key, body, host="evil.example"),
    "request for credentials": lambda key, body: raw(
        "GET", "/_cloudknot/credentials/0", ("Host", key.host), ("Content-Length", str(len(body)))
    )(body),
    "call of another service": lambda key, body: key.request("POST", "/", FORM, body=body, service="sts"),
    "chunks": lambda key, body: put(key, body, length=False).replace(
        b"\r\nConnection", b"\r\nTransfer-Encoding: chunked\r\nConnection"
    ),
}
"""Requests with a body whose signature is missing or cannot be verified yet."""


@pytest.fixture(scope="module")
def key(embedded):
    embedded.client("s3").create_bucket(Bucket="uploads")
    return key_of(embedded)


@pytest.fixture(scope="module")
def pid(embedded):
    return embedded.status().pid


class TestBodies:
    @pytest.mark.parametrize("kind", UNSIGNED)
    def test_unsigned_body_is_never_stored(self, key, pid, kind):
        before = settled_bytes(pid)
        request = UNSIGNED[kind](key, bytes(LARGE))
        with connected(key.host) as connection:
            # The server ends a connection with chunks at once.
            with contextlib.suppress(*([OSError] if kind == "chunks" else [])):
                connection.sendall(request[:CUT])
            # An answer to another request shows that the server has read everything sent before.
            assert send(key.host, put(key, b"x")).status == 200
            assert stored_bytes(pid) == before
            if kind != "chunks":
                connection.sendall(request[CUT:])
                assert read_answer(connection).is_refusal
        assert stored_bytes(pid) == before

    def test_body_of_call_has_a_limit(self, key):
        answer = send(key.host, key.request("POST", "/", FORM, body=bytes(LONGEST_CALL + 1), service="sts"))
        assert answer.status == 413

    def test_refused_request_that_expects_to_continue_is_answered_at_once(self, key):
        head = raw(
            "PUT", "/uploads/k", ("Host", key.host), ("Expect", "100-continue"), ("Content-Length", str(LARGE))
        )()
        with connected(key.host) as connection:
            connection.sendall(head)
            assert read_answer(connection).status == 403

    def test_body_with_another_digest_is_refused(self, key):
        request = put(key, b"good").replace(b"\r\n\r\ngood", b"\r\n\r\nevil")
        answer = send(key.host, request)
        assert (answer.status, b"XAmzContentSHA256Mismatch" in answer.body) == (400, True)


@pytest.mark.more
def test_two_thousand_half_sent_requests_hold_up_nobody(own_cloud):
    key = key_of(own_cloud)
    own_cloud.client("s3").create_bucket(Bucket="uploads")
    starts = (
        b"",
        b"PUT /uploads/k HT",
        put(key, bytes(LARGE))[:2000],
        UNSIGNED["no signature"](key, bytes(LARGE))[:200],
    )
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(MAX_CONNECTIONS, most - 200) + 100
    held = []
    try:
        for number in range(count):
            connection = connected(key.host)
            connection.sendall(starts[number % len(starts)])
            held.append(connection)
        assert own_cloud.call("s3", "list_buckets")["Buckets"][0]["Name"] == "uploads"
        assert send(key.host, put(key, b"x")).status == 200
        assert own_cloud.status() is not None
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


@pytest.fixture
def servers():
    """Return the list of the servers that `started` has started."""
    return []


@pytest.fixture
def started(servers):
    """Return a function that starts a server. It admits everything, and has short limits."""
    threads = []

    def start(application=None, **limits):
        server = http_server(
            application or one_byte,
            lambda method, uri, headers: Admission(Request(method, uri, headers), is_verified=True),
            0,
            Limits(**{"connections": 100, "check": 0, **limits}),
        )
        server.stopping = False
        servers.append(server)
        threads.append(threading.Thread(target=serve, args=[server]))
        threads[-1].start()
        return f"127.0.0.1:{server.effective_port}"

    yield start
    for server in servers:
        server.stopping = True
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def one_byte(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]


class Reader:
    """An application that reads bodies of objects in blocks, and answers with their digest."""

    def __init__(self):
        self.sizes, self.ended, self.errors = [], [], []

    def __call__(self, environ, start_response):
        digest, body = hashlib.sha256(), environ["wsgi.input"]
        try:
            while block := body.read(BLOCK):
                self.sizes.append(len(block))
                digest.update(block)
        except ClientDisconnected as error:
            self.errors.append(error)
            raise
        self.ended.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "64")])
        return [digest.hexdigest().encode()]


class TestUploads:
    """A large body goes from the socket to the thread that answers the request."""

    def test_body_reaches_application_while_it_arrives(self, started):
        reader, data = Reader(), os.urandom(LARGE)
        with connected(started(reader)) as connection:
            connection.sendall(head(LARGE) + data[:CUT])
            until(lambda: sum(reader.sizes) >= CUT - BLOCK)
            assert not reader.ended
            for _ in range(2):
                connection.sendall(data[CUT:])
                assert exchange(connection) == hashlib.sha256(data).hexdigest().encode()
                # The connection serves the next request, too.
                connection.sendall(head(LARGE) + data[:CUT])

    @pytest.mark.parametrize("pieces", [1, 3, 1000], ids=lambda pieces: f"{pieces} pieces")
    def test_requests_behind_a_large_body_are_answered(self, started, pieces):
        data = os.urandom(300_000)
        requests = (head(len(data)) + data + head(10) + data[:10]) * 2
        with connected(started(Reader())) as connection:
            for start in range(0, len(requests), len(requests) // pieces):
                connection.sendall(requests[start : start + len(requests) // pieces])
            answers = [exchange(connection).decode() for _ in range(4)]
        assert answers == [hashlib.sha256(body).hexdigest() for body in (data, data[:10])] * 2

    def test_expected_body_is_requested_when_it_is_read(self, started):
        data = os.urandom(LARGE)
        with connected(started(Reader())) as connection:
            connection.sendall(head(LARGE, "Expect: 100-continue"))
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(data)
            assert exchange(connection) == hashlib.sha256(data).hexdigest().encode()

    def test_expected_body_that_nobody_reads_is_not_requested(self, started):
        with connected(started()) as connection:
            connection.sendall(head(LARGE, "Expect: 100-continue"))
            # It ends the connection, because the client may send the body anyway.
            assert read_answer(connection).body == b"x"

    @pytest.mark.parametrize("size", [100_000, LARGE])
    def test_unread_body_is_dropped(self, started, size):
        with connected(started()) as connection:
            for _ in range(2):
                connection.sendall(head(size) + bytes(size))
                assert exchange(connection) == b"x"

    def test_body_without_its_end_is_given_up(self, started):
        reader = Reader()
        host = started(reader, stall=0.3)
        for is_awaited in (True, False):
            with connected(host) as connection:
                # On a busy machine, the sender itself may pause for that long.
                with contextlib.suppress(OSError):
                    connection.sendall(head(LARGE) + bytes(CUT))
                assert not is_awaited or is_closed(connection)
        until(lambda: len(reader.errors) == 2)
        assert not reader.ended

    def test_slow_body_is_given_up_although_each_byte_comes_in_time(self, started):
        reader = Reader()
        with connected(started(reader, stall=0.5, slowest=100)) as connection:
            connection.sendall(head(LARGE))
            # A broken pipe or a reset, by chance.
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    connection.sendall(b"x")
                    time.sleep(0.02)
                pytest.fail("The server has waited for all bytes.")
        assert reader.errors

    def test_half_sent_bodies_take_no_thread_from_others(self, started):
        reader = Reader()
        host = started(reader)
        with contextlib.ExitStack() as stack:
            for number in range(3 * THREADS):
                stack.enter_context(connected(host)).sendall(head(LARGE) + bytes(number * 1000))
            with connected(host) as connection:
                connection.sendall(head(5) + b"small")
                assert exchange(connection) == hashlib.sha256(b"small").hexdigest().encode()
        until(lambda: len(reader.errors) == 3 * THREADS)

    def test_further_connection_takes_the_place_of_a_half_sent_body(self, started, servers):
        reader, waiting = Reader(), []
        host = started(reader, connections=2)
        with contextlib.ExitStack() as stack:
            for count in (1, 2):
                waiting.append(stack.enter_context(connected(host)))
                waiting[-1].sendall(head(LARGE) + bytes(BLOCK))
                until(lambda count=count: len(reader.sizes) == count and all_wait_for_bodies(*servers))
            further = stack.enter_context(connected(host))
            further.sendall(head(1) + b"x")
            assert exchange(further) == hashlib.sha256(b"x").hexdigest().encode()
            assert is_closed(waiting[0])


class TestDownloads:
    """The kernel copies files to the socket."""

    @pytest.fixture
    def data(self):
        return os.urandom(LARGE)

    @pytest.fixture
    def files(self, tmp_path, data):
        """Return an application that answers with ranges of two files, and the opened files."""
        path, opened = tmp_path / "file", []
        path.write_bytes(data)

        def answer(environ, start_response):
            ranges = [(1000, 2_000_000), (0, 1), (0, 0), (LARGE - 500_000, 500_000)]
            segments = [Segment(path.open("rb"), *part) for part in ranges]
            opened.extend(segment.file for segment in segments)
            announced = "7" if environ["PATH_INFO"] == "/wrong" else "2500001"
            start_response("200 OK", [("Content-Length", announced)])
            return FileBody(segments)

        return answer, opened

    def test_ranges_of_files_are_sent_and_closed(self, started, files, data):
        with connected(started(files[0])) as connection:
            for _ in range(2):
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert exchange(connection) == data[1000:2_001_000] + data[:1] + data[-500_000:]
            connection.sendall(b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            assert exchange(connection, has_body=False) == b""
            assert len(exchange(connection)) == 2_500_001
        until(lambda: all(file.closed for file in files[1]))

    def test_answer_of_another_length_is_an_error(self, started, files, caplog):
        answer = send(started(files[0]), b"GET /wrong HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.status == 500
        assert all(file.closed for file in files[1])
        assert "announces 7 bytes and has 2500001" in caplog.text

    def test_client_that_does_not_read_is_given_up(self, started, files):
        with connected(started(files[0], stall=0.3)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert until(lambda: files[1] and all(file.closed for file in files[1]))

    def test_clients_that_do_not_read_take_no_thread_from_others(self, started, files):
        def answer(environ, start_response):
            return (one_byte if environ["PATH_INFO"] == "/small" else files[0])(environ, start_response)

        host = started(answer)
        with contextlib.ExitStack() as stack:
            for _ in range(3 * THREADS):
                stack.enter_context(connected(host)).sendall(b"GET / HTTP/1.1\r\n\r\n" * 4)
            with connected(host) as connection:
                assert is_answered(connection, b"GET /small HTTP/1.1\r\n\r\n")


class TestLimits:
    """Connections that wait for too long are closed."""

    @pytest.mark.parametrize(
        "start", [b"", b"GET / HT", b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"], ids=["nothing", "head", "body"]
    )
    def test_half_sent_request_is_closed(self, started, start):
        with connected(started(head=0.2, stall=0.2)) as connection:
            connection.sendall(start)
            assert is_closed(connection)

    def test_slow_body_is_closed_although_each_byte_comes_in_time(self, started):
        with connected(started(stall=0.5, slowest=100)) as connection:
            connection.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
            sent = 0
            # A broken pipe or a reset, by chance.
            with contextlib.suppress(OSError):
                while sent < 500:
                    connection.sendall(b"x")
                    sent += 1
                    time.sleep(0.02)
            assert sent < 500

    def test_idle_connection_of_client_that_was_answered_stays_open(self, started, servers):
        with connected(started()) as connection:
            (server,) = servers
            usual = server.limits
            for _ in range(2):
                assert is_answered(connection)
                until(lambda: all(channel.is_idle for channel in list(server.active_channels.values())))
                # Not before, because a request may take longer on a busy machine.
                server.limits = replace(usual, head=0.1, stall=0.1)
                time.sleep(0.5)
                server.limits = usual
            assert is_answered(connection)

    def test_further_connection_takes_the_place_of_the_oldest_unanswered_one(self, started):
        host = started(connections=3)
        with contextlib.ExitStack() as stack:
            answered = stack.enter_context(connected(host))
            assert is_answered(answered)
            waiting = [stack.enter_context(connected(host)) for _ in range(5)]
            for connection in waiting:
                connection.sendall(b"GET / HT")
            assert is_closed(waiting[0])
            assert is_answered(answered)
            assert is_answered(waiting[-1], b"TP/1.1\r\n\r\n")


def all_wait_for_bodies(server):
    """Return whether each connection of a server has a thread that waits for the rest of a body."""
    return all(channel.is_receiving for channel in list(server.active_channels.values()))


def head(length, *headers):
    """Return the head of an upload."""
    return "\r\n".join(["PUT /k HTTP/1.1", f"Content-Length: {length}", *headers, "", ""]).encode()


def exchange(connection, has_body=True):
    """Read one answer over a connection that stays open, and return its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        # Byte by byte, because the next answer may follow.
        part = connection.recv(1)
        assert part, "The server has closed the connection."
        data += part
    assert data.startswith(b"HTTP/1.1 200 OK\r\n"), data
    length = int(re.search(rb"Content-Length: ([0-9]+)", data)[1]) if has_body else 0
    body = bytearray()
    while len(body) < length:
        part = connection.recv(length - len(body))
        assert part, "The server has closed the connection."
        body += part
    return bytes(body)


def is_closed(connection):
    """Wait for the end of a connection, and return whether it came without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        # The server had not read all bytes yet.
        return True


def is_answered(connection, request=b"GET / HTTP/1.1\r\n\r\n"):
    """Send a request, and return whether the whole answer arrives."""
    connection.sendall(request)
    data = b""
    while not data.endswith(b"\r\n\r\nx"):
        part = connection.recv(1 << 16)
        if not part:
            return False
        data += part
    return True


def serve(server):
    """Serve until ``server.stopping`` is set."""
    while not server.stopping:
        server.serve_once(0.05)
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    server.task_dispatcher.shutdown()
    server.close()
