"""A wait of the server's thread asks only the connections that may have changed."""

import os
import select
import socket

import pytest

from cloudknot.local.server.http.watched import Watched


class Half:
    """One end of a pair of sockets, as waitress sees it, which counts the questions for its state."""

    accepting = False

    def __init__(self):
        self.socket, self.other = socket.socketpair()
        self.questions, self.received, self.has_output = 0, b"", False

    def readable(self):
        self.questions += 1
        return not self.has_output

    def writable(self):
        return self.has_output

    def handle_read_event(self):
        self.received += self.socket.recv(100)

    def handle_write_event(self):
        self.has_output = False

    def close(self):
        self.socket.close()
        self.other.close()


@pytest.fixture
def halves():
    halves = [Half() for _ in range(20)]
    yield halves
    for half in halves:
        half.close()


@pytest.fixture
def watched(halves):
    watched = Watched()
    for half in halves:
        watched[half.socket.fileno()] = half
    watched.wait(0)
    return watched


def test_idle_connections_are_asked_once(watched, halves):
    for _ in range(10):
        halves[3].other.send(b"x")
        watched.wait(10)
    assert halves[3].received == b"x" * 10
    assert [half.questions for half in halves[:3] + halves[4:]] == [1] * 19


def test_noted_connection_is_asked_again(watched, halves):
    halves[5].has_output = True
    watched.wait(0)
    assert halves[5].has_output
    watched.note(halves[5].socket.fileno())
    watched.wait(10)
    assert not halves[5].has_output


def test_removed_connection_gets_no_event_of_another_with_its_number(watched, halves):
    number = halves[0].socket.fileno()
    del watched[number]
    halves[0].other.close()
    another, halves[0].other = socket.socketpair()
    # At once, because another thread could take a number that is free for a moment.
    os.dup2(another.fileno(), number, inheritable=False)
    another.close()
    halves[0].other.send(b"x")
    watched.wait(0)
    assert halves[0].received == b""
    watched[number] = halves[0]
    watched.wait(10)
    assert halves[0].received == b"x"
    assert select.select([halves[0].socket], [], [], 0) == ([], [], [])
