"""The worker's own connections send requests that cannot be split, and accept only answers with one reading."""

import socket

import pytest

from cloudknot.worker.s3.connections import LONGEST_HEAD, MalformedError, connection_to, is_lost

HEAD = b"HTTP/1.1 200 OK\r\nx-amz-request-id: 1\r\n"


@pytest.fixture
def server():
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def pair(server):
    """A connection, and its other end."""
    connection = connection_to(f"127.0.0.1:{server.getsockname()[1]}", 10)
    connection.connect()
    other, _ = server.accept()
    other.settimeout(10)
    yield connection, other
    other.close()
    connection.close()


def test_small_request_is_one_message(pair):
    connection, other = pair
    connection.request("PUT", "/b/k", b"body", {"Host": "h", "Content-Length": "4"})
    text = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nAccept-Encoding: identity\r\n\r\nbody"
    assert other.recv(1 << 16) == text


def test_pieces_of_large_body_follow_the_head(pair):
    connection, other = pair
    connection.request("PUT", "/b/k", [b"one", memoryview(b"two")], {"Host": "h"})
    connection.close()
    with other.makefile("rb") as file:
        assert file.read().endswith(b"\r\n\r\nonetwo")


@pytest.mark.parametrize("target", ["/b/k HTTP/1.1\r\nX: ", "/b /k", "/b\nk", "/b\0k"])
def test_target_cannot_begin_another_line(pair, target):
    connection, other = pair
    with pytest.raises(MalformedError):
        connection.request("GET", target, None, {"Host": "h"})
    connection.close()
    assert other.recv(1 << 16) == b""


def test_header_cannot_begin_another_line(pair):
    with pytest.raises(MalformedError):
        pair[0].request("GET", "/b/k", None, {"Host": "h\r\nAuthorization: x"})


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_answer_arrives_in_pieces_of_any_size(pair, size):
    connection, other = pair
    body = bytes(range(256)) * 8
    data = HEAD + f'Content-Length: {len(body)}\r\nETag:  "e"\t\r\n\r\n'.encode() + body
    for start in range(0, len(data), size):
        other.sendall(data[start : start + size])
    answer = connection.getresponse()
    assert (answer.status, answer.headers["etag"]) == (200, '"e"')
    first = bytearray(100)
    count = answer.readinto(first)
    assert bytes(first[:count]) + answer.read() == body
    assert answer.readinto(bytearray(1)) == 0
    answer.close()
    assert connection.sock is not None


def test_connection_ends_with_the_last_answer(pair):
    connection, other = pair
    other.sendall(HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\nx")
    answer = connection.getresponse()
    assert answer.read() == b"x"
    answer.close()
    assert connection.sock is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        HEAD,
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        HEAD + b"Content-Length: +1\r\n\r\nx",
        HEAD + b"Content-Length: 1\r\n\r\nxHTTP",
        HEAD + b"Content-Length: 1\r\n folded\r\n\r\nx",
        HEAD + b"Content-Length : 1\r\n\r\nx",
        HEAD + b"no colon\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\n",
        HEAD + b"X: " + b"x" * (LONGEST_HEAD + (1 << 17)) + b"\r\n\r\n",
    ],
)
def test_answer_with_two_readings_is_lost(pair, data):
    connection, other = pair
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    other.sendall(data[: 1 << 18])
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(MalformedError) as raised:
        connection.getresponse()
    assert is_lost(raised.value)


def test_body_that_breaks_off_is_lost(pair):
    connection, other = pair
    other.sendall(HEAD + b"Content-Length: 10\r\n\r\nhalf")
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(MalformedError):
        connection.getresponse().read()


def test_name_without_port_has_that_of_http():
    assert connection_to("[::1]:8080", 1)._address == ("::1", 8080)
    assert connection_to("localhost", 1)._address == ("localhost", 80)
    assert connection_to("[::1]", 1)._address == ("::1", 80)
