"""Plain requests of S3: who may make them, and how connections are kept."""

import os
import socket

import pytest
from botocore.config import Config
from botocore.session import Session

from cloudknot.worker.s3.plain_requests import BODY_LIMIT, MAX_IDLE, PlainRequests, _Connections


@pytest.fixture
def session():
    session = Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
    return session


class Connections(list):
    """Makes connections that have no server, and keeps them."""

    def __call__(self, url):
        self.append(Connection())
        return self[-1]


class Connection:
    """One end of a socket in place of a connection; what is sent by ``server`` arrives."""

    def __init__(self):
        self.sock, self.server = None, None
        self.requests = []

    def connect(self):
        self.sock, self.server = socket.socketpair()

    def request(self, method, path, body, headers):
        self.requests.append((method, path))
        raise OSError("nobody answers")

    def close(self):
        if self.sock:
            self.sock.close()
            self.server.close()
        self.sock = None


@pytest.fixture
def made():
    made = Connections()
    yield made
    for connection in made:
        connection.close()


def is_asked(session, made, config):
    client = session.create_client("s3", region_name="eu-west-1", config=config)
    assert PlainRequests(session, client, "test", made).get("bucket", "key", {}) is None
    return bool(made)


def test_a_client_with_a_proxy_or_a_certificate_is_left_alone(session, made):
    assert not is_asked(session, made, Config(proxies={"https": "http://proxy:3128"}))
    assert not is_asked(session, made, Config(client_cert="certificate.pem"))
    assert is_asked(session, made, Config(proxies={"http": "http://proxy:3128"}))


def test_proxies_of_the_environment_are_those_of_boto3(session, made, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert not is_asked(session, made, None)
    assert is_asked(session, made, Config(proxies={}))
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert is_asked(session, made, None)


def test_certificates_are_those_of_boto3(session, made, monkeypatch, tmp_path):
    """A bundle that cannot be loaded is boto3's to complain of."""
    (tmp_path / "bundle.pem").write_text("nonsense")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    requests = PlainRequests(session, session.create_client("s3", region_name="eu-west-1"), "test")
    assert requests.get("bucket", "key", {}) is None
    monkeypatch.delenv("AWS_CA_BUNDLE")
    other = Session()
    fine = PlainRequests(other, other.create_client("s3", region_name="eu-west-1"), "test")
    assert fine._connect("https://s3.eu-west-1.amazonaws.com").host == "s3.eu-west-1.amazonaws.com"
    assert fine._tls.cert_store_stats()["x509_ca"] > 50


class Deaf(Connection):
    def connect(self):
        raise OSError("nobody listens")


class DeafConnections(Connections):
    def __call__(self, url):
        self.append(Deaf())
        return self[-1]


@pytest.fixture
def deaf(session):
    """Requests to where nobody listens, and the connections that they tried to make."""
    tried = DeafConnections()
    return PlainRequests(session, session.create_client("s3", region_name="eu-west-1"), "test", tried), tried


def test_where_nobody_listens_it_is_tried_once(deaf):
    requests, tried = deaf
    assert [requests.get("bucket", "key", {}) for _ in range(3)] == [None] * 3
    assert len(tried) == 1


def test_warming_up_says_nothing_of_later_requests(deaf):
    """The object that it asks for is not there, and may be refused."""
    requests, tried = deaf
    requests.warm_up()
    assert requests.get("bucket", "key", {}) is None
    assert len(tried) == 2


def test_a_body_that_boto3_would_stream_is_left_to_it(session, made):
    requests = PlainRequests(session, session.create_client("s3", region_name="eu-west-1"), "test", made)
    assert not requests.put("bucket", "key", bytes(BODY_LIMIT + 1), {})
    assert not made
    assert not requests.put("bucket", "key", bytes(BODY_LIMIT), {})
    assert made[0].requests == [("PUT", "/bucket/key")]


def test_a_connection_is_used_again(made):
    connections = _Connections("http://server", made)
    first = connections.take()
    second = connections.take()
    assert first is not second
    connections.put_back(first)
    assert connections.take() is first
    assert len(made) == 2


def test_a_connection_that_the_server_has_closed_is_not_used_again(made):
    connections = _Connections("http://server", made)
    for spoil in (lambda server: server.close(), lambda server: server.sendall(b"HTTP/1.1 408")):
        old = connections.take()
        connections.put_back(old)
        spoil(old.server)
        assert connections.take() is not old
        assert old.sock is None


def test_no_more_connections_are_kept_than_are_of_use(made):
    connections = _Connections("http://server", made)
    for connection in [connections.take() for _ in range(MAX_IDLE + 3)]:
        connections.put_back(connection)
    assert sum(connection.sock is not None for connection in made) == MAX_IDLE
    del connections
    assert not any(connection.sock for connection in made)


def test_a_fork_uses_no_connection_of_its_parent(made):
    connections = _Connections("http://server", made)
    connections.put_back(parents := connections.take())
    pid = os.fork()
    if pid == 0:
        os._exit(int(connections.take() is parents or parents.sock is not None))
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert connections.take() is parents
