"""Docker's contexts and credential helpers are those that the command ``docker`` uses."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudknot.aws.images import docker_context
from cloudknot.errors import CloudknotConfigurationError, ImageError
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.image.engine.connection import connect, engine_address, engine_answers
from cloudknot.local.runners import docker as runner
from cloudknot.program.program import make_program
from tests.helpers.functions import square
from tests.helpers.images import render_image

without_default_engine = pytest.mark.skipif(
    Path("/var/run/docker.sock").exists(), reason="an engine has the default socket of this machine"
)


class Engine(http.server.BaseHTTPRequestHandler):
    """An engine that answers its version, and has no images."""

    def do_GET(self) -> None:
        found = self.path.endswith(("/version", "/_ping"))
        body = b'{"ApiVersion": "1.44", "Version": "1"}' if found else b'{"message": "no such image"}'
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def engine() -> Iterator[str]:
    """Yield the address of an engine on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of Docker's settings, without any."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def add_context(settings: Path, name: str, host: str | None) -> None:
    folder = settings / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}} if host else {}
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))


def choose(settings: Path, name: str) -> None:
    (settings / "config.json").write_text(json.dumps({"currentContext": name}))


def test_variable_chooses_context(settings: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add_context(settings, "desktop-linux", engine)
    add_context(settings, "away", "tcp://127.0.0.1:1")
    choose(settings, "away")
    monkeypatch.setenv("DOCKER_CONTEXT", "desktop-linux")
    assert engine_address().host == engine
    assert engine_answers()
    connect().close()
    runner.connect().close()


def test_settings_choose_context(settings: Path, engine: str) -> None:
    add_context(settings, "desktop-linux", engine)
    choose(settings, "desktop-linux")
    assert engine_address()[::2] == (engine, "Docker's context 'desktop-linux'")
    runner.connect().close()


def test_host_wins_as_for_docker_itself(settings: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(settings, "missing")
    monkeypatch.setenv("DOCKER_CONTEXT", "missing")
    monkeypatch.setenv("DOCKER_HOST", engine)
    connect().close()
    runner.connect().close()


def test_variable_chooses_no_context(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(settings, "missing")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert docker_context.current() is None


@pytest.mark.parametrize("by_variable", [True, False])
def test_missing_context_is_no_other_engine(
    by_variable: bool, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_variable:
        monkeypatch.setenv("DOCKER_CONTEXT", "labb")
    else:
        choose(settings, "labb")
    named = "DOCKER_CONTEXT=labb" if by_variable else "Docker's context 'labb'"
    with pytest.raises(ImageError, match=rf"{named} does not exist\. .*`docker context ls` lists them"):
        connect()
    with pytest.raises(CloudknotConfigurationError, match=f"{named} does not exist"):
        runner.connect()
    assert not engine_answers()


def test_context_of_another_orchestrator_has_no_engine(settings: Path) -> None:
    add_context(settings, "cluster", None)
    choose(settings, "cluster")
    with pytest.raises(ImageError, match="has no address of an engine"):
        connect()


def test_certificates_of_context_are_used(settings: Path) -> None:
    add_context(settings, "lab", "tcp://lab:2376")
    choose(settings, "lab")
    folder = settings / "contexts" / "tls" / hashlib.sha256(b"lab").hexdigest() / "docker"
    folder.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (folder / name).touch()
    found = docker_context.current()
    assert found is not None
    assert found.certificates == tuple(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    assert engine_address().tls


@without_default_engine
def test_message_for_missing_engine_names_host_and_contexts(settings: Path) -> None:
    with pytest.raises(
        ImageError, match=r"set DOCKER_HOST to its address, or choose its context: `docker context ls`"
    ):
        connect()
    # Its `connect` would leave docker-py's socket open.
    assert "set DOCKER_HOST to its address" in runner._no_engine(FileNotFoundError())


@without_default_engine
@pytest.mark.parametrize("place", [".docker/run/docker.sock", ".colima/default/docker.sock"])
def test_socket_of_desktop_is_named(
    place: str, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        # The name of a socket has at most 108 bytes.
        monkeypatch.chdir(path.parent)
        listener.bind(path.name)
        with pytest.raises(ImageError, match=rf"the socket {path}\. Run `export DOCKER_HOST=unix://{path}"):
            connect()


@pytest.mark.filterwarnings("ignore:docker-credential")
def test_missing_credential_helper_is_a_sentence(settings: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings / "config.json").write_text(
        json.dumps({"credsStore": "desktop", "auths": {"https://index.docker.io/v1/": {}}})
    )
    monkeypatch.setenv("DOCKER_HOST", engine)
    monkeypatch.setenv("PATH", str(settings))
    image = render_image(make_program(square))
    with DockerBuilder() as builder, pytest.raises(ImageError) as caught:
        builder.build(image, "cloudknot/test:1")
    assert "docker-credential-desktop not installed or not available in PATH. Install it" in str(caught.value)
    assert str(settings / "config.json") in str(caught.value)
    with DockerBuilder() as builder, pytest.raises(ImageError, match="docker-credential-desktop"):
        builder.push("index.docker.io/lab/image:1")
