"""Start of the embedded cloud's server process, detached from this process so that it outlives it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from cloudknot.errors import CloudError, CloudknotConfigurationError
from cloudknot.local.directory.files import log_file
from cloudknot.local.directory.state import CloudState, read_state
from cloudknot.local.options import ARGUMENTS_FROM_STDIN, ServerOptions

START_TIMEOUT = 60.0
"""Seconds."""
SHOWN_CHARACTERS = 2000
"""The length of the end of the log that an error shows."""

_NEEDED = ("moto", "cryptography", "waitress")
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])


def check_installed() -> None:
    """Raise `CloudknotConfigurationError` unless the packages that the embedded cloud needs are installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CloudknotConfigurationError(
            f"The embedded cloud needs packages that are not installed for {sys.executable}: {', '.join(missing)}. "
            f"Run `{sys.executable} -m pip install 'cloudknot[local]'`."
        )


def check_registry(registry: str) -> None:
    """Raise `CloudknotConfigurationError` unless the registry answers and accepts the login in the environment."""
    from cloudknot.local.server.registry import check, login_from_environment, registry_of

    check(registry_of(login_from_environment(registry)))


class ServerProcess:
    """A server process that makes its imports, and then waits for its arguments. It has no directory before these.

    It is detached, so that it outlives this process. Without arguments it ends with this process, or after half a
    minute.

    Parameters
    ----------
    module : str
        The server's program, for ``python -m``.
    output : int or file
        Where it writes before it has a log.
    """

    def __init__(self, module: str, output: int | IO[bytes] = subprocess.DEVNULL) -> None:
        self._variables = _environment()
        # The server writes to the pipe when it answers. The pipe also closes when the server dies, so neither case
        # needs polling, and this process must not keep its own copy of the writing end.
        self._reading_end, self._writing_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                # -P: a module of the user's in the directory must not replace one of the standard library.
                [sys.executable, "-P", "-m", module, ARGUMENTS_FROM_STDIN],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd="/",
                env=self._variables,
                pass_fds=[self._writing_end],
                # Without it, Ctrl-C in this session's terminal would also end the cloud.
                start_new_session=True,
            )
        except OSError:
            os.close(self._reading_end)
            raise
        finally:
            os.close(self._writing_end)
        # The process forks the server after its imports, and ends. Nobody else collects its exit code.
        threading.Thread(target=self._process.wait, name="cloudknot-launch", daemon=True).start()

    @property
    def is_current(self) -> bool:
        """Whether a process that starts now would have the same environment variables."""
        return self._variables == _environment()

    def serve(self, directory: Path, options: ServerOptions) -> bool | None:
        """Have the server serve a directory. Return whether it answers; None if it does neither that nor end."""
        values = {"directory": directory, **asdict(options), "ready-fd": self._writing_end}
        flags = {f"--{name}": value for name, value in values.items() if value is not None and value is not False}
        texts = [[name] if value is True else [name, str(value)] for name, value in flags.items()]
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stream:
                stream.write(json.dumps(list(itertools.chain(*texts))).encode())
            readable = select.select([self._reading_end], [], [], START_TIMEOUT)[0]
            return bool(os.read(self._reading_end, 1)) if readable else None
        finally:
            os.close(self._reading_end)

    def dismiss(self) -> None:
        """Have a server that waits for its arguments end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        os.close(self._reading_end)


def launch(directory: Path, options: ServerOptions, module: str, waiting: ServerProcess | None = None) -> CloudState:
    """Start a cloud for the directory, detached from this process, and wait until it answers.

    ``module`` is the server's program, for ``python -m``. ``waiting`` is a process of it that waits for its arguments.

    Raises
    ------
    CloudError
        The server ended, or was not ready within 60 s. The message shows the end of its log.
    """
    # Of a process that ended before it had a log, nobody would know why. So another one tries again.
    answers = waiting.serve(directory, options) if waiting is not None else False
    if answers is False:
        with log_file(directory).open("ab") as log:
            answers = ServerProcess(module, log).serve(directory, options)
    state = read_state(directory) if answers else None
    if state is None:
        problem = f"was not ready after {START_TIMEOUT:.0f} s" if answers is None else "ended during its start"
        raise CloudError(
            f"The embedded cloud in {directory} {problem}. Correct the problem that the end of its log shows, "
            f"then try again. {log_end(directory)}"
        )
    return state


def log_end(directory: Path) -> str:
    """Return the end of the server's log for a message."""
    log = log_file(directory)
    return f"The end of {log}:\n{log.read_text(errors='replace', encoding='utf-8').strip()[-SHOWN_CHARACTERS:]}"


def _environment() -> dict[str, str]:
    """Return the user's environment without variables for AWS clients.

    A cloudknot that is not installed, for example in a clone, is on its ``PYTHONPATH``.
    """
    # The server and its jobs must not use the AWS settings of the session that happens to start them.
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    # The new process finds installed packages anyway. PYTHONPATH goes before the standard library, and people have
    # installed packages such as dataclasses or enum34 that replace a module of it and break Python.
    if os.path.basename(_PACKAGE_ROOT) in ("site-packages", "dist-packages"):
        return variables
    path = os.pathsep.join(part for part in (_PACKAGE_ROOT, variables.get("PYTHONPATH", "")) if part)
    return {**variables, **(_for_forks_of_macos() if sys.platform == "darwin" else {}), "PYTHONPATH": path}


def _for_forks_of_macos(read: Callable[[], Mapping[str, str]] | None = None) -> dict[str, str]:
    """Return the variables with which forked processes, such as jobs, can use the network on macOS.

    ``read`` returns the proxies of the system by their scheme; by default, urllib does.
    """
    # Not at the top: other systems need none of it, and its import takes a hundredth of a second.
    import urllib.request

    # The system's settings of proxies cannot be read in a fork: the process crashes. Nobody reads them if there are
    # variables for proxies. Nor can Apple's frameworks be used, unless this variable permits it.
    fork_safety = {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
    if urllib.request.getproxies_environment():
        return fork_safety
    proxies = {
        f"{scheme}_proxy": address
        for scheme, address in (read or urllib.request.getproxies)().items()
        if scheme in ("http", "https")
    }
    return {**fork_safety, **proxies, "no_proxy": "localhost,127.0.0.1,::1,.local" if proxies else "*"}
