"""The client of a fork server, in the process of the embedded cloud. It launches the server and notices its end.

The fork server itself is `fork_server`, and runs in the image's own Python.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.local.runners.images.usage import Hold

if TYPE_CHECKING:
    from cloudknot.local.runners.fork_server import ForkRequest, Message

PROGRAM = Path(__file__).with_name("fork_server.py")
LAUNCH_TIMEOUT = 60.0
"""Seconds for the imports of an image's worker."""
CLOSE_TIMEOUT = 10.0
"""Seconds for a fork server to kill its children and end."""

_log = logging.getLogger(__name__)

OnMessage = Callable[["ForkServerClient", "Message | None"], None]


class ForkServerFailed(Exception):
    """A fork server could not start. The text is the reason for its tasks, in the words of ECS."""


class ForkServerClient:
    """A running fork server, launched by the constructor.

    Parameters
    ----------
    directory : Path
        The image.
    output : Path
        The file for the fork server's own output.
    environment : mapping
        Its environment variables. The clients that it prepares for its children use them.
    imports : mapping
        Imports to make before the first fork: names by their module. See `imports`.
    on_message : callable
        Called with every message, on a thread of this client. At the end of the fork server, called with None.
    program : Path
        The fork server's source.

    Raises
    ------
    ForkServerFailed
        The fork server did not become ready for tasks.
    """

    def __init__(
        self,
        directory: Path,
        output: Path,
        environment: Mapping[str, str],
        imports: Mapping[str, Iterable[str]],
        on_message: OnMessage,
        program: Path = PROGRAM,
    ) -> None:
        self._output, self._on_message = output, on_message
        python = directory / "environment" / "bin" / "python"
        try:
            # The path without links: another environment may take the place of this one.
            self._hold = Hold((directory / "environment").resolve())
        except OSError as error:
            raise ForkServerFailed(_no_environment(directory, error)) from error
        self._control, theirs = socket.socketpair()
        modules = json.dumps({module: sorted(names) for module, names in imports.items()})
        # -I keeps the user's PYTHON* variables and packages out of the image. A session of its own keeps Ctrl-C in
        # the terminal of the embedded cloud away from it.
        with theirs, output.open("wb") as stream:
            try:
                self._process = subprocess.Popen(
                    [python, "-I", "-X", "utf8", program, directory, str(theirs.fileno()), modules],
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
                self._hold.release()
                raise ForkServerFailed(_no_environment(directory, error)) from error
        self._sending = threading.Condition()
        self._unsent = bytearray()
        self._reader = self._control.makefile("rb")
        self._await_ready()
        self.alive = True
        self._reading, writing = (
            threading.Thread(target=work, name=f"fork-server-{self._process.pid}", daemon=True)
            for work in (self._read, self._write)
        )
        self._reading.start()
        writing.start()

    def send(self, message: ForkRequest) -> bool:
        """Send a message without waiting. Return False if the fork server has ended."""
        data = json.dumps(message).encode() + b"\n"
        with self._sending:
            if not self.alive:
                return False
            # Messages keep their order: none overtakes an unsent one.
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

    def failure_reason(self) -> str:
        """Return the end of the fork server's output, or else its exit code."""
        text = self._output.read_text(errors="replace", encoding="utf-8").strip()
        return text[-1000:] or f"the image's process ended with code {self._process.poll()}"

    def close(self) -> None:
        """End the fork server and its children, and release its environment."""
        self._on_message = _ignore
        self._end()
        # The fork server ends when its control socket closes.
        _shut_down(self._control)
        try:
            self._process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # That thread releases the environment. A removal right after this call must find it free.
        self._reading.join(CLOSE_TIMEOUT)

    def _await_ready(self) -> None:
        ready, _, _ = select.select([self._control], [], [], LAUNCH_TIMEOUT)
        if ready and self._reader.readline():
            return
        self._process.kill()
        self._process.wait()
        self._control.close()
        self._hold.release()
        raise ForkServerFailed(f"CannotStartContainerError: {self.failure_reason()}")

    def _read(self) -> None:
        try:
            for line in self._reader:
                self._deliver(json.loads(line))
        except OSError:
            pass
        self._end()
        self._deliver(None)
        self._reader.close()
        self._control.close()
        self._process.wait()
        self._hold.release()

    def _deliver(self, message: Message | None) -> None:
        try:
            self._on_message(self, message)
        except Exception:
            # The thread must go on, because later messages concern other tasks.
            _log.exception("Cannot process the message %s of a fork server", message)

    def _write(self) -> None:
        """Send the messages that did not fit into the socket."""
        # In a thread of its own, because it may wait for the fork server, while callers of `send` hold locks.
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


def _no_environment(directory: Path, error: OSError) -> str:
    """Return the reason for tasks whose environment was removed, or whose Python was upgraded or removed."""
    return (
        f"CannotPullContainerError: the packages of image {directory.name} are not installed any more: {error}. "
        "Create the Knot again: that installs them."
    )


def _ignore(client: ForkServerClient, message: Message | None) -> None:
    pass


def _shut_down(control: socket.socket) -> None:
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)
