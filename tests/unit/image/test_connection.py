"""The connection to a Docker engine: found within a bound, and its errors name the setting to correct."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from cloudknot.errors import ImageError
from cloudknot.image.engine.connection import connect, engine_answers


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the engine and Docker's settings of this machine."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def test_wrong_docker_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(ImageError, match=r"none answers at DOCKER_HOST=tcp://127\.0\.0\.1:1\. Correct DOCKER_HOST"):
        connect()
    assert not engine_answers()


@pytest.mark.parametrize("host", ["nonsense://x", "unix:///none/docker.sock", "tcp://no-such-host.invalid:2375"])
def test_invalid_docker_host_is_named(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(ImageError, match=r"A Docker engine is needed .*Correct DOCKER_HOST, or unset it"):
        connect()
    assert not engine_answers()


def test_silent_engine_is_given_up_within_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert not engine_answers(0.3)
        # The client's own bound is a minute.
        assert time.monotonic() - start < 50


def test_server_that_is_no_engine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.getsockname()[1]}")

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not engine_answers()
        thread.join(10)


def test_missing_engine_is_installed_or_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.path.exists("/var/run/docker.sock"):
        pytest.skip("an engine has the default socket of this machine")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match=r"none is installed on this machine\. Install and start one: .*docker\.io"):
        connect()
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(ImageError, match=r"its engine is not running\. Start it") as caught:
        connect()
    assert "apt-get install" not in str(caught.value)
