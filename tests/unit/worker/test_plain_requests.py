"""Plain S3 requests leave unusual cases to boto3 and reuse connections. Pairs of local sockets stand in for these."""

import os
import socket

import pytest
from botocore.config import Config
from botocore.session import Session

from cloudknot.worker.s3.owners import BucketOwners
from cloudknot.worker.s3.plain_requests import BODY_LIMIT, MAX_IDLE, PlainRequests, _Connections

OWNERS = BucketOwners(lambda: "123456789012")


@pytest.fixture
def session():
    session = Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
    return session


class Connections(list):
    """A factory of connections without a server, and the list of those that it made."""

    def __call__(self, url):
        self.append(Connection())
        return self[-1]


class Connection:
    """One end of a pair of sockets in place of a connection. Data that ``server`` sends arrives."""

    def __init__(self):
        self.sock, self.server = None, None
        self.requests = []

    def connect(self):
        self.sock, self.server = socket.socketpair()

    def request(self, method, path, body, headers):
        self.requests.append((method, path))
        raise OSError("no server answers")

    def close(self):
        if self.sock:
            self.sock.close()
            self.server.close()
        self.sock = None


@pytest.fixture
def connections():
    connections = Connections()
    yield connections
    for connection in connections:
        connection.close()


def is_requested(session, connections, config):
    """Return whether plain requests open a connection for a client with this configuration."""
    client = session.create_client("s3", region_name="eu-west-1", config=config)
    assert PlainRequests(session, client, "test", OWNERS, connections).get("bucket", "key", {}) is None
    return bool(connections)


def test_plain_requests_leave_client_with_proxy_or_certificate_to_boto3(session, connections):
    assert not is_requested(session, connections, Config(proxies={"https": "http://proxy:3128"}))
    assert not is_requested(session, connections, Config(client_cert="certificate.pem"))
    assert is_requested(session, connections, Config(proxies={"http": "http://proxy:3128"}))


def test_plain_requests_respect_proxies_of_environment(session, connections, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert not is_requested(session, connections, None)
    assert is_requested(session, connections, Config(proxies={}))
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert is_requested(session, connections, None)


def test_plain_requests_use_certificates_of_boto3(session, connections, monkeypatch, tmp_path):
    """The error for a bundle that cannot be loaded comes from boto3."""
    (tmp_path / "bundle.pem").write_text("nonsense")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    requests = PlainRequests(session, session.create_client("s3", region_name="eu-west-1"), "test", OWNERS)
    assert requests.get("bucket", "key", {}) is None
    monkeypatch.delenv("AWS_CA_BUNDLE")
    other_session = Session()
    working = PlainRequests(other_session, other_session.create_client("s3", region_name="eu-west-1"), "test", OWNERS)
    assert working._connect("https://s3.eu-west-1.amazonaws.com").host == "s3.eu-west-1.amazonaws.com"
    # A context without a bundle would have no authorities.
    assert working._tls.cert_store_stats()["x509_ca"] > 50


class UnreachableConnection(Connection):
    def connect(self):
        raise OSError("no server listens")


class UnreachableConnections(Connections):
    def __call__(self, url):
        self.append(UnreachableConnection())
        return self[-1]


@pytest.fixture
def unreachable(session):
    """Return requests to an address without a server, and the list of the connections that they try to make."""
    attempts = UnreachableConnections()
    return PlainRequests(
        session, session.create_client("s3", region_name="eu-west-1"), "test", OWNERS, attempts
    ), attempts


def test_plain_requests_stop_after_first_failed_connection(unreachable):
    requests, attempts = unreachable
    assert [requests.get("bucket", "key", {}) for _ in range(3)] == [None] * 3
    assert len(attempts) == 1


def test_failed_warm_up_does_not_disable_later_requests(unreachable):
    """The warm-up requests an object that does not exist, and S3 may refuse that."""
    requests, attempts = unreachable
    requests.warm_up()
    assert requests.get("bucket", "key", {}) is None
    assert len(attempts) == 2


def test_plain_requests_leave_large_bodies_to_boto3(session, connections):
    requests = PlainRequests(
        session, session.create_client("s3", region_name="eu-west-1"), "test", OWNERS, connections
    )
    assert not requests.put("bucket", "key", bytes(BODY_LIMIT + 1), {})
    assert not connections
    assert not requests.put("bucket", "key", bytes(BODY_LIMIT), {})
    assert connections[0].requests == [("PUT", "/bucket/key")]


def test_pool_reuses_returned_connection(connections):
    pool = _Connections("http://server", connections)
    first = pool.take()
    second = pool.take()
    assert first is not second
    pool.put_back(first)
    assert pool.take() is first
    assert len(connections) == 2


def test_pool_discards_connection_with_end_or_data_from_server(connections):
    pool = _Connections("http://server", connections)
    # Some servers announce a timeout before they close an idle connection.
    for disturb in (lambda server: server.close(), lambda server: server.sendall(b"HTTP/1.1 408")):
        old = pool.take()
        pool.put_back(old)
        disturb(old.server)
        assert pool.take() is not old
        assert old.sock is None


def test_pool_closes_surplus_connections_and_all_at_its_end(connections):
    pool = _Connections("http://server", connections)
    for connection in [pool.take() for _ in range(MAX_IDLE + 3)]:
        pool.put_back(connection)
    assert sum(connection.sock is not None for connection in connections) == MAX_IDLE
    del pool
    assert not any(connection.sock for connection in connections)


def test_forked_process_uses_no_connection_of_its_parent(connections):
    pool = _Connections("http://server", connections)
    pool.put_back(parent_connection := pool.take())
    pid = os.fork()
    if pid == 0:
        # After sys.exit, pytest would go on in the child process.
        os._exit(int(pool.take() is parent_connection or parent_connection.sock is not None))
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert pool.take() is parent_connection
