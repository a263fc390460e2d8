"""Certificates and proxies from the environment."""

import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import cloudknot as ck
from cloudknot.aws.images.registry.connections import Connections, InterruptedRequestError
from tests.integration.registry.server import RegistryServer

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def connections():
    connections = Connections(60)
    yield connections
    connections.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A file with a self-signed certificate for this machine and for registry.example, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    names = [x509.DNSName("registry.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def encrypted(certificate):
    """Yield a registry that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with RegistryServer(tls=context) as server:
        yield server


class Tunnel(BaseHTTPRequestHandler):
    """A proxy that connects every host to one server, and demands a login if it has one."""

    login, target, seen = "", ("", 0), []

    def do_CONNECT(self):
        self.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        if self.login and self.headers.get("Proxy-Authorization") != self.login:
            self.send_error(407)
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(self.target) as server, contextlib.suppress(ConnectionError):
            pair = {self.connection: server, server: self.connection}
            while ready := select.select(list(pair), [], [], 60)[0]:
                data = ready[0].recv(65536)
                if not data:
                    return
                pair[ready[0]].sendall(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def tunnel(encrypted):
    """Yield the address of a proxy before the registry, and its handler."""
    host, port = encrypted.address.split(":")
    handler = type("Handler", (Tunnel,), {"target": (host, int(port)), "seen": []})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{proxy.server_port}", handler
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificate_in_a_named_file_is_trusted(encrypted, certificate, connections, monkeypatch, variable):
    monkeypatch.setenv(variable, str(certificate))
    assert connections.open("GET", f"https://{encrypted.address}/v2/", {}).status == 200


def test_unknown_certificate_is_refused_at_once(encrypted, connections):
    with pytest.raises(ck.CloudError, match=r"is not secure: self.signed certificate.*Set AWS_CA_BUNDLE"):
        connections.open("GET", f"https://{encrypted.address}/v2/", {"Authorization": "Basic secret"})
    assert not encrypted.requests


def test_file_without_certificates_is_named(connections, monkeypatch, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "empty.pem"))
    with pytest.raises(ck.errors.CloudknotConfigurationError, match="has no usable certificates"):
        connections.open("GET", "https://127.0.0.1:1/", {})


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_proxy_is_used_with_its_login(tunnel, certificate, connections, monkeypatch, variable):
    address, handler = tunnel
    handler.login = "Basic YW5uYTpwYTpzcw=="
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv(variable, f"http://anna:pa%3Ass@{address}")
    assert connections.open("GET", "https://registry.example/v2/", {}).status == 200
    assert handler.seen == [("registry.example:443", handler.login)]


def test_refusal_of_a_proxy_is_named_without_its_password(tunnel, connections, monkeypatch):
    address, handler = tunnel
    handler.login = "Basic other"
    monkeypatch.setenv("https_proxy", f"http://anna:secret@{address}")
    with pytest.raises(InterruptedRequestError, match=r"its proxy refuses \(407") as caught:
        connections.open("GET", "https://registry.example/v2/", {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/v2/", "http://localhost:{}/v2/"])
def test_this_machine_and_exceptions_need_no_proxy(connections, monkeypatch, url):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with RegistryServer() as server:
        assert connections.open("GET", url.format(server.address.split(":")[1]), {}).status == 200
    monkeypatch.setenv("no_proxy", "registry.example")
    # There is no such host. With the proxy, the connection would be refused instead.
    with pytest.raises(InterruptedRequestError) as caught:
        connections.open("GET", "http://registry.example/v2/", {})
    assert "refused" not in str(caught.value)


def test_connection_that_opens_after_the_stop_is_broken(connections):
    with RegistryServer() as server:
        assert connections.open("GET", f"http://{server.address}/v2/", {}).status == 200
        connections.stop()
        with pytest.raises(InterruptedRequestError):
            connections.open("GET", f"http://{server.address}/v2/", {})
