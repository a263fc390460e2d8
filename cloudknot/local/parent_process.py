"""The server's end of a warm parent: launching it, talking to it, noticing its end."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("warm_parent.py")
LAUNCH_TIMEOUT = 60.0
"""Seconds that the imports of an image's worker may take."""
CLOSE_TIMEOUT = 10.0

OnMessage = Callable[["ParentProcess", Mapping[str, Any] | None], None]


class ParentFailed(Exception):
    """A task cannot be started; the text is the container's reason."""


class ParentProcess:
    """A running warm parent.

    Parameters
    ----------
    directory : Path
        The image.
    output : Path
        Where what the parent itself prints goes.
    environment : mapping
        Its environment variables. What it prepares for its children, such as a client, is made with them.
    on_message : callable
        Called with every message, and at last with None, on a thread of the parent's own.

    Raises
    ------
    ParentFailed
        When it did not get as far as waiting for tasks.
    """

    def __init__(self, directory: Path, output: Path, environment: Mapping[str, str], on_message: OnMessage) -> None:
        self._output, self._on_message = output, on_message
        self._control, theirs = socket.socketpair()
        python = directory / "environment" / "bin" / "python"
        with theirs, output.open("wb") as stream:
            try:
                self._process = subprocess.Popen(
                    [python, "-I", "-X", "utf8", PROGRAM, directory, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    cwd=directory,
                    env=dict(environment),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise ParentFailed(f"CannotStartContainerError: {error}") from error
        self._sending = threading.Lock()
        self._reader = self._control.makefile("rb")
        self._await_ready()
        self.alive = True
        threading.Thread(target=self._read, name=f"warm-parent-{self._process.pid}", daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Pass a message on; False when the parent is no more."""
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._control.sendall(data)
        except OSError:
            return False
        return True

    def last_words(self) -> str:
        """The end of what the parent printed, for a reason."""
        text = self._output.read_text(errors="replace").strip()
        return text[-1000:] or f"the image's process ended with code {self._process.poll()}"

    def close(self) -> None:
        """End the parent, which kills its children first."""
        self.alive = False
        self._on_message = _ignore
        _shut_down(self._control)
        try:
            self._process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_ready(self) -> None:
        ready, _, _ = select.select([self._control], [], [], LAUNCH_TIMEOUT)
        if ready and self._reader.readline():
            return
        self._process.kill()
        self._process.wait()
        self._control.close()
        raise ParentFailed(f"CannotStartContainerError: {self.last_words()}")

    def _read(self) -> None:
        try:
            for line in self._reader:
                self._on_message(self, json.loads(line))
        except OSError:
            pass
        self.alive = False
        self._on_message(self, None)
        self._reader.close()
        self._control.close()
        self._process.wait()


def _ignore(parent: ParentProcess, message: Mapping[str, Any] | None) -> None:
    pass


def _shut_down(control: socket.socket) -> None:
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)
