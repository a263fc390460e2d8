"""Plain S3 requests leave unusual cases to boto3 and reuse connections. Pairs of local sockets stand in for these."""

import gc
import hashlib
import os
import socket
import warnings
from http.client import HTTPResponse

import pytest
from botocore.config import Config
from botocore.session import Session

from cloudknot.worker.s3.connections import connection_to
from cloudknot.worker.s3.owners import BucketOwners
from cloudknot.worker.s3.plain_requests import LARGEST_BODY, MAX_IDLE, SIGNED_BODY, PlainRequests, _Connections
from cloudknot.worker.s3.server import S3Server, SigningKey, server_of_client, server_of_variables

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
    assert (
        PlainRequests(server_of_client(session, client), "test", OWNERS, connections).get("bucket", "key", {}) is None
    )
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
    requests = PlainRequests(
        server_of_client(session, session.create_client("s3", region_name="eu-west-1")), "test", OWNERS
    )
    assert requests.get("bucket", "key", {}) is None
    monkeypatch.delenv("AWS_CA_BUNDLE")
    other_session = Session()
    working = PlainRequests(
        server_of_client(other_session, other_session.create_client("s3", region_name="eu-west-1")), "test", OWNERS
    )
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
        server_of_client(session, session.create_client("s3", region_name="eu-west-1")), "test", OWNERS, attempts
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


class Taking(Connection):
    """A connection whose server takes a request and answers with an ETag."""

    def request(self, method, path, body, headers):
        self.requests.append((method, path, body, headers))

    def getresponse(self):
        answer = HTTPResponse(self.sock)
        self.server.sendall(b'HTTP/1.1 200 OK\r\nx-amz-request-id: 1\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
        answer.begin()
        return answer


class TakingConnections(Connections):
    def __call__(self, url):
        self.append(Taking())
        return self[-1]


@pytest.mark.parametrize(
    ("url", "is_sent"),
    [
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("http://127.0.0.1:4566", True),
        ("http://localhost:4566", True),
        ("http://192.168.0.7:9000", False),
    ],
)
def test_large_body_is_sent_without_digest_only_where_no_network_can_change_it(url, is_sent):
    server = S3Server(url, "eu-west-1", lambda: SigningKey("AKIAIOSFODNN7EXAMPLE", "secret"))
    taking = TakingConnections()
    requests = PlainRequests(server, "test", OWNERS, taking)
    pieces = [b"head", memoryview(bytes(SIGNED_BODY))]
    assert requests.put("bucket", "key", pieces, {}) == ('"e"' if is_sent else None)
    assert requests.put("bucket", "key", [b"small"], {}, {"partNumber": "1", "uploadId": "a b"}) == '"e"'
    *large, (_, path, body, headers) = taking[0].requests
    assert (path, body) == ("/bucket/key?partNumber=1&uploadId=a%20b", b"small")
    assert headers["X-Amz-Content-SHA256"] == hashlib.sha256(b"small").hexdigest()
    for _, _, body, headers in large:
        # The same objects, so no copy was made.
        assert body is pieces
        assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
        assert headers["Content-Length"] == str(SIGNED_BODY + 4)
    assert len(large) == is_sent
    taking[0].close()


def test_plain_requests_leave_bodies_to_boto3_that_are_sent_in_parts(session, connections):
    requests = PlainRequests(
        S3Server("http://localhost", "eu-west-1", lambda: SigningKey("a", "b")), "test", OWNERS, connections
    )
    piece = bytes(LARGEST_BODY // 16)
    assert requests.put("bucket", "key", [piece] * 16 + [b"x"], {}) is None
    assert not connections


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


class HalfConnection(Connection):
    """A connection that fails after its socket was opened, as one without TLS does."""

    def connect(self):
        super().connect()
        raise ConnectionResetError("the server speaks no TLS")


def test_pool_closes_connection_that_could_not_be_made():
    connection = HalfConnection()
    with pytest.raises(ConnectionResetError):
        _Connections("http://store", lambda url: connection).take()
    assert connection.sock is None


def test_refused_connection_leaves_no_open_socket():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound, and not listening: all connections are refused.
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        connection = connection_to(url.partition("//")[2], timeout=60)
        with pytest.raises(ConnectionRefusedError):
            _Connections(url, lambda url: connection).take()
        assert connection.sock is None


def test_pool_closes_surplus_connections_and_all_at_its_end(connections):
    pool = _Connections("http://server", connections)
    for connection in [pool.take() for _ in range(MAX_IDLE + 3)]:
        pool.put_back(connection)
    assert sum(connection.sock is not None for connection in connections) == MAX_IDLE
    del pool
    assert not any(connection.sock for connection in connections)


def test_pool_in_a_cycle_of_references_leaves_no_open_socket():
    """The garbage collector may finalize the sockets first. They are older than the pool here."""
    connection = Connection()
    connection.connect()
    pool = _Connections("http://server", Connections())
    pool.put_back(connection)
    pool.itself, server = pool, connection.server
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del connection, pool
        gc.collect()
    assert server.fileno() == -1
    assert [str(warning.message) for warning in caught if "unclosed" in str(warning.message)] == []


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


def test_forked_process_uses_connection_that_its_parent_has_lent(connections):
    requests = PlainRequests(S3Server("http://server", "eu-west-1", lambda: None), "agent", OWNERS, connections)
    others, lent = [requests.lend() for _ in range(2)], requests.lend()
    for other in others:
        requests.take_back(other)
    pid = os.fork()
    if pid == 0:
        requests.adopt(lent)
        closed = all(other.sock is None for other in others)
        was_idle, taken = requests.is_idle(lent), requests.lend()
        os._exit(int(not closed or not was_idle or taken is not lent or requests.is_idle(lent)))
    assert os.waitpid(pid, 0) == (pid, 0)
    requests.take_back(lent)
    assert requests.lend() is lent
    assert len(connections) == 3


@pytest.mark.parametrize(("url", "kind"), [("https://server", Connections), ("http://server", UnreachableConnections)])
def test_connection_with_tls_or_without_server_is_not_lent(url, kind):
    made = kind()
    requests = PlainRequests(S3Server(url, "eu-west-1", lambda: None), "agent", OWNERS, made)
    assert requests.lend() is None
    assert all(connection.sock is None for connection in made)


ROLE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:4566/",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:4566/credentials",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
}
KEY = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}


@pytest.mark.parametrize("variables", [ROLE, {**ROLE, **KEY}], ids=["role", "key"])
def test_server_is_known_from_variables_of_job(variables, tmp_path):
    server = server_of_variables({**variables, "HOME": str(tmp_path)})
    assert (server.url, server.region, server.is_direct) == ("http://127.0.0.1:4566", "eu-west-1", True)


def test_key_of_variables_goes_before_role(tmp_path):
    server = server_of_variables({**ROLE, **KEY, "HOME": str(tmp_path)})
    assert server.credentials()[:3] == ("AKIAIOSFODNN7EXAMPLE", "secret", "token")


@pytest.mark.parametrize(
    "change",
    [
        {"AWS_ENDPOINT_URL": ""},
        {"AWS_ENDPOINT_URL": "https://s3.example.org"},
        {"AWS_DEFAULT_REGION": ""},
        {"AWS_PROFILE": "work"},
        {"AWS_CONFIG_FILE": "/config"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"},
        {"http_proxy": "http://proxy:3128"},
        {"AWS_ACCESS_KEY_ID": "half a key"},
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ""},
    ],
    ids=str,
)
def test_botocore_finds_server_that_variables_do_not_fully_name(change, tmp_path):
    assert server_of_variables({**ROLE, "HOME": str(tmp_path), **change}) is None


def test_botocore_reads_aws_files(tmp_path):
    (tmp_path / ".aws").mkdir()
    assert server_of_variables({**ROLE, "HOME": str(tmp_path)}) is None
