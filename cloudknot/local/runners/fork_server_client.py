"""The client of a fork server, in the process of the embedded cloud: launch it, talk to it, notice its end.

The server itself is `fork_server`, which runs in the image's own Python.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.local.runners.fork_server import ForkRequest, Message

PROGRAM = Path(__file__).with_name("fork_server.py")
LAUNCH_TIMEOUT = 60.0
"""Seconds that the imports of an image's worker may take."""
CLOSE_TIMEOUT = 10.0

_log = logging.getLogger(__name__)

OnMessage = Callable[["ForkServerClient", "Message | None"], None]


class ForkServerFailed(Exception):
    """A task cannot be started; the text is the container's reason."""


class ForkServerClient:
    """A running fork server, as the process that launched it sees it.

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
    ForkServerFailed
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
                raise ForkServerFailed(f"CannotStartContainerError: {error}") from error
        self._sending = threading.Condition()
        self._unsent = bytearray()
        self._reader = self._control.makefile("rb")
        self._await_ready()
        self.alive = True
        for work in (self._read, self._write):
            threading.Thread(target=work, name=f"fork-server-{self._process.pid}", daemon=True).start()

    def send(self, message: ForkRequest) -> bool:
        """Pass a message on, and wait for nothing; False when the parent is no more."""
        data = json.dumps(message).encode() + b"\n"
        with self._sending:
            if not self.alive:
                return False
            if not self._unsent:
                try:
                    data = data[self._control.send(data, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    pass
                except OSError:
                    return False
            if data:
                self._unsent += data
                self._sending.notify()
        return True

    def last_words(self) -> str:
        """The end of what the parent printed, for a reason."""
        text = self._output.read_text(errors="replace").strip()
        return text[-1000:] or f"the image's process ended with code {self._process.poll()}"

    def close(self) -> None:
        """End the parent, which kills its children first."""
        self._on_message = _ignore
        self._end()
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
        raise ForkServerFailed(f"CannotStartContainerError: {self.last_words()}")

    def _read(self) -> None:
        try:
            for line in self._reader:
                self._hear(json.loads(line))
        except OSError:
            pass
        self._end()
        self._hear(None)
        self._reader.close()
        self._control.close()
        self._process.wait()

    def _hear(self, message: Message | None) -> None:
        try:
            self._on_message(self, message)
        except Exception:
            # The messages to come are about other tasks.
            _log.exception("%s of the process of an image was not understood", message)

    def _write(self) -> None:
        """Send what `send` could not at once: it is called with locks held, and this may wait for the parent."""
        while True:
            with self._sending:
                self._sending.wait_for(lambda: self._unsent or not self.alive)
                if not self.alive:
                    return
                data = bytes(self._unsent)
            try:
                self._control.sendall(data)
            except OSError:
                return
            with self._sending:
                del self._unsent[: len(data)]

    def _end(self) -> None:
        with self._sending:
            self.alive = False
            self._sending.notify_all()


def _ignore(parent: ForkServerClient, message: Message | None) -> None:
    pass


def _shut_down(control: socket.socket) -> None:
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)
