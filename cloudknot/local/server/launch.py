"""Starting the embedded cloud's process, so that it outlives this one."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cloudknot.errors import CloudError, CloudknotConfigurationError
from cloudknot.local.options import ServerOptions
from cloudknot.local.state import CloudState, log_file, read_state

START_TIMEOUT = 60.0
SHOWN_CHARACTERS = 2000

_NEEDED = ("moto", "flask", "flask_cors", "waitress", "virtualenv")
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


def check_installed() -> None:
    """Raise `CloudknotConfigurationError` unless what the embedded cloud needs is installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CloudknotConfigurationError(
            f"The local cloud needs {', '.join(missing)}, not installed for {sys.executable}. "
            "Run `pip install 'cloudknot[local]'`."
        )


def check_registry(registry: str) -> None:
    """Raise `CloudknotConfigurationError` unless the registry answers and takes the environment's login."""
    from cloudknot.local.server.registry import Registry, login_from_environment

    Registry(login_from_environment(registry)).check()


def launch(directory: Path, options: ServerOptions) -> CloudState:
    """Start a cloud for the directory, detached from this process, and wait until it answers.

    Raises
    ------
    CloudError
        It ended, or was not ready within 60 s; the end of its log is in the text.
    """
    ready, theirs = os.pipe()
    try:
        try:
            _spawn(directory, options, theirs)
        finally:
            os.close(theirs)
        said = select.select([ready], [], [], START_TIMEOUT)[0]
        state = read_state(directory) if said and os.read(ready, 1) else None
    finally:
        os.close(ready)
    if state is None:
        what = "ended" if said else f"was not ready within {START_TIMEOUT:.0f} s"
        tail = log_file(directory).read_text(errors="replace")[-SHOWN_CHARACTERS:]
        raise CloudError(f"The local cloud {what} as it was started. The end of {log_file(directory)}:\n{tail}")
    return state


def _spawn(directory: Path, options: ServerOptions, ready: int) -> None:
    given = {"directory": directory, "detach": True, **asdict(options), "ready-fd": ready}
    chosen = {f"--{name}": value for name, value in given.items() if value is not None and value is not False}
    texts = [[name] if value is True else [name, str(value)] for name, value in chosen.items()]
    command = [sys.executable, "-m", "cloudknot.local.server", *itertools.chain(*texts)]
    with log_file(directory).open("ab") as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=_environment(),
            pass_fds=[ready],
            start_new_session=True,
            check=False,
            timeout=START_TIMEOUT,
        )


def _environment() -> dict[str, str]:
    """The user's environment without what steers AWS clients, and with this very cloudknot importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    path = os.pathsep.join(part for part in (_PACKAGE_ROOT, kept.get("PYTHONPATH", "")) if part)
    return {**kept, "PYTHONPATH": path}
