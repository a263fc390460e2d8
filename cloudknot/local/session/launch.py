"""Start of the embedded cloud's server process, detached from this process so that it outlives it."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cloudknot.errors import CloudError, CloudknotConfigurationError
from cloudknot.local.directory.state import CloudState, log_file, read_state
from cloudknot.local.options import ServerOptions

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


def launch(directory: Path, options: ServerOptions, module: str) -> CloudState:
    """Start a cloud for the directory, detached from this process, and wait until it answers.

    ``module`` is the server's program, for ``python -m``.

    Raises
    ------
    CloudError
        The server ended, or was not ready within 60 s. The message shows the end of its log.
    """
    # The server writes to the pipe when it answers. The pipe also closes when the server dies, so neither case needs
    # polling, and this process must not keep its own copy of the writing end.
    reading_end, writing_end = os.pipe()
    try:
        try:
            _spawn(directory, options, module, writing_end)
        finally:
            os.close(writing_end)
        readable = select.select([reading_end], [], [], START_TIMEOUT)[0]
        state = read_state(directory) if readable and os.read(reading_end, 1) else None
    finally:
        os.close(reading_end)
    if state is None:
        problem = "ended during its start" if readable else f"was not ready after {START_TIMEOUT:.0f} s"
        raise CloudError(
            f"The embedded cloud in {directory} {problem}. Correct the problem that the end of its log shows, "
            f"then try again. {log_end(directory)}"
        )
    return state


def log_end(directory: Path) -> str:
    """Return the end of the server's log for a message."""
    log = log_file(directory)
    return f"The end of {log}:\n{log.read_text(errors='replace', encoding='utf-8').strip()[-SHOWN_CHARACTERS:]}"


def _spawn(directory: Path, options: ServerOptions, module: str, ready: int) -> None:
    values = {"directory": directory, "detach": True, **asdict(options), "ready-fd": ready}
    flags = {f"--{name}": value for name, value in values.items() if value is not None and value is not False}
    texts = [[name] if value is True else [name, str(value)] for name, value in flags.items()]
    command = [sys.executable, "-m", module, *itertools.chain(*texts)]
    with log_file(directory).open("ab") as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=_environment(),
            pass_fds=[ready],
            # Without it, Ctrl-C in this session's terminal would also end the cloud.
            start_new_session=True,
            # A failed start shows at the pipe, and `launch` then quotes the log.
            check=False,
            timeout=START_TIMEOUT,
        )


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


def _for_forks_of_macos(read: Callable[[], Mapping[str, str]] = urllib.request.getproxies) -> dict[str, str]:
    """Return the variables with which forked processes, such as jobs, can use the network on macOS.

    ``read`` returns the proxies of the system by their scheme.
    """
    # The system's settings of proxies cannot be read in a fork: the process crashes. Nobody reads them if there are
    # variables for proxies. Nor can Apple's frameworks be used, unless this variable permits it.
    fork_safety = {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
    if urllib.request.getproxies_environment():
        return fork_safety
    proxies = {f"{scheme}_proxy": address for scheme, address in read().items() if scheme in ("http", "https")}
    return {**fork_safety, **proxies, "no_proxy": "localhost,127.0.0.1,::1,.local" if proxies else "*"}
