"""Half-sent and unsigned requests hold up nobody, and their bodies are stored nowhere."""

import contextlib
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from cloudknot.local.iam.gate import LONGEST_CALL, Admission
from cloudknot.local.iam.signing import Request
from cloudknot.local.server.http.connections import Limits
from cloudknot.local.server.http.server import MAX_CONNECTIONS, http_server
from tests.helpers.raw_requests import FORM, Key, connected, key_of, raw, read_answer, send
from tests.helpers.waiting import until

LARGE = 4 << 20
"""Bytes. waitress moves a body of half a megabyte to a file."""
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
    def test_signed_body_is_stored_while_it_arrives(self, key, pid):
        request = put(key, bytes(LARGE))
        with connected(key.host) as connection:
            connection.sendall(request[:CUT])
            until(lambda: stored_bytes(pid) > 1 << 20)
            connection.sendall(request[CUT:])
            assert read_answer(connection).status == 200

    @pytest.mark.parametrize("kind", UNSIGNED)
    def test_unsigned_body_is_never_stored(self, key, pid, kind):
        # moto keeps a large object in such a file, too.
        send(key.host, key.request("DELETE", "/uploads/k"))
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
        assert send(key.host, request).status == 403


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


class TestLimits:
    """Connections that wait for too long are closed. The server here admits everything and has short limits."""

    @pytest.fixture
    def started(self):
        servers = []

        def start(**limits):
            server = http_server(
                lambda environ, start_response: (start_response("200 OK", [("Content-Length", "1")]), [b"x"])[1],
                lambda method, uri, headers: Admission(Request(method, uri, headers), is_verified=True),
                0,
                Limits(**{"connections": 100, "check": 0, **limits}),
            )
            thread = threading.Thread(target=serve, args=[server])
            thread.start()
            servers.append((server, thread))
            return f"127.0.0.1:{server.effective_port}"

        yield start
        for server, thread in servers:
            server.stopping = True
            server.pull_trigger()
            thread.join(10)
            assert not thread.is_alive()

    @pytest.mark.parametrize(
        "start", [b"", b"GET / HT", b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"], ids=["nothing", "head", "body"]
    )
    def test_half_sent_request_is_closed(self, started, start):
        with connected(started(head=0.2, stall=0.2)) as connection:
            connection.sendall(start)
            assert connection.recv(1) == b""

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

    def test_idle_connection_of_client_that_was_answered_stays_open(self, started):
        with connected(started(head=0.1, stall=0.1, idle=60)) as connection:
            for _ in range(2):
                assert is_answered(connection)
                time.sleep(0.5)

    def test_further_connection_takes_the_place_of_the_oldest_unanswered_one(self, started):
        host = started(connections=3)
        with contextlib.ExitStack() as stack:
            answered = stack.enter_context(connected(host))
            assert is_answered(answered)
            waiting = [stack.enter_context(connected(host)) for _ in range(5)]
            for connection in waiting:
                connection.sendall(b"GET / HT")
            assert waiting[0].recv(1) == b""
            assert is_answered(answered)
            assert is_answered(waiting[-1], b"TP/1.1\r\n\r\n")


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
    server.stopping = False
    while not server.stopping:
        server.asyncore.loop(timeout=0.05, map=server._map, use_poll=True, count=1)
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    server.task_dispatcher.shutdown()
    server.close()
