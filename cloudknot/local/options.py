"""The options of the embedded cloud: their checks, and their comparison with those of a running cloud."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotConfigurationError, refuse
from cloudknot.local.directory.files import OPTIONS
from cloudknot.local.runners.choice import RUNNERS, WITH_REGISTRY
from cloudknot.options import config

if TYPE_CHECKING:
    from cloudknot.local.directory.state import CloudState
    from cloudknot.local.iam.signing import AccessKey

DIRECTORY_VARIABLE = "CLOUDKNOT_LOCAL_DIR"
ARGUMENTS_FROM_STDIN = "--arguments-from-stdin"
"""The only argument of a server that gets the others from the session, after its imports."""


@dataclass(frozen=True)
class ServerOptions:
    """Options for a new server process, as described for `LocalCloud`. None stands for the default."""

    vcpus: float | None = None
    quota: int | None = None
    port: int | None = None
    runner: str | None = None
    registry: str | None = None
    iam: bool | None = None


def check_system(platform: str = sys.platform) -> None:
    """Raise `CloudknotConfigurationError` on Windows, where the embedded cloud does not run."""
    # Its jobs are forked processes, whose signals, groups and file locks Windows does not have.
    if platform == "win32":
        raise CloudknotConfigurationError(
            "The embedded cloud needs Linux, WSL or macOS, and this is Python for Windows. Run `wsl --install`, then "
            "start Python inside WSL. Or use AWS, which needs no Linux here: Knot(..., cloud='aws')."
        )


def default_directory() -> Path:
    """Return ``CLOUDKNOT_LOCAL_DIR``, else ``cloudknot/local`` in ``XDG_DATA_HOME`` or ``~/.local/share``."""
    return config.directory(DIRECTORY_VARIABLE) or usual_directory()


def usual_directory() -> Path:
    """Return the directory without ``CLOUDKNOT_LOCAL_DIR``: ``cloudknot/local`` in the user's folder for data."""
    # Not in the folder for caches, which people and programs empty.
    return config.data_folder() / "local"


def local_command(name: str, directory: str | Path | None) -> str:
    """Return the command line of ``cloudknot local`` for the cloud of a directory, by default the usual one."""
    if directory is None or _is_used_anyway(Path(directory)):
        return f"cloudknot local {name}"
    return f"cloudknot local {name} --directory {quote(str(directory))}"


def _is_used_anyway(directory: Path) -> bool:
    """Return whether the command uses a directory without its name, in any shell of the user."""
    if os.environ.get(DIRECTORY_VARIABLE):
        return False
    try:
        return directory == usual_directory()
    except CloudknotConfigurationError:
        # A user without a home directory has no usual one.
        return False


def access_key_from(access_key: str | None, secret_key: str | None, token: str | None) -> AccessKey | None:
    """Return the key that these arguments form, or None if all are empty.

    Raises
    ------
    CloudknotInputError
        The id or the secret is missing.
    """
    if not access_key and not secret_key and not token:
        return None
    if not access_key or not secret_key:
        missing = "aws_secret_access_key" if access_key else "aws_access_key_id"
        refuse(
            problem=f"{missing} is missing, so the access key is incomplete.",
            fix="Pass aws_access_key_id and aws_secret_access_key together, or neither.",
        )
    from cloudknot.local.iam.signing import AccessKey

    return AccessKey(access_key, secret_key, token)


def check_running(directory: Path, options: ServerOptions, state: CloudState) -> None:
    """Raise `CloudknotConfigurationError` unless a running cloud has the requested options."""
    # These options decide how jobs run and who may call. vcpus, quota and port count only when a cloud is started.
    running = {"runner": state.runner, "registry": state.registry, "iam": state.iam}
    requested = asdict(options)
    differing = {name: value for name, value in running.items() if requested[name] not in (None, value)}
    if differing:
        actual = ", ".join(f"{name} {value}" for name, value in differing.items())
        expected = ", ".join(f"{name} {requested[name]}" for name in differing)
        raise CloudknotConfigurationError(
            f"The embedded cloud in {directory} is running with other options ({actual}) than requested ({expected}). "
            f"Stop it with `{local_command('stop', directory)}`, or choose another directory."
        )


def with_last(options: ServerOptions, directory: Path) -> ServerOptions:
    """Return options in which those of the last start of the cloud stand for missing ones."""
    # The knots of a cloud have images for its runner, and its users have keys that only ``iam`` accepts.
    try:
        last = json.loads((directory / OPTIONS).read_text(encoding="utf-8"))
        runner, registry, iam = last["runner"], last["registry"], last["iam"]
    except (OSError, ValueError, KeyError, TypeError):
        return options
    if options.runner is None and options.registry is None:
        options = replace(options, runner=runner, registry=registry)
    return replace(options, iam=iam) if options.iam is None else options


def remember(options: ServerOptions, directory: Path) -> None:
    """Store the options that the next start of the cloud should have, too."""
    last = {"runner": options.runner, "registry": options.registry, "iam": options.iam}
    (directory / OPTIONS).write_text(json.dumps(last), encoding="utf-8")


def checked_runner(runner: str | None, registry: str | None) -> str | None:
    """Return the runner that ``runner`` or ``registry`` selects, or None if both are None.

    Raises
    ------
    CloudknotInputError
        The runner is unknown, or does not match the presence of a registry.
    """
    if runner is None:
        return WITH_REGISTRY if registry is not None else None
    if runner not in RUNNERS:
        names = " or ".join(f'"{name}"' for name in RUNNERS)
        refuse(problem=f"runner={runner!r} is not a runner of the embedded cloud.", fix=f"Choose {names}.")
    if RUNNERS[runner].needs_registry and registry is None:
        refuse(
            problem=f'runner="{runner}" needs a registry.',
            cause="Images of jobs are pushed to the registry and pulled from it.",
            fix='Pass its address, for example registry="127.0.0.1:5000".',
        )
    if registry is not None and not RUNNERS[runner].needs_registry:
        refuse(
            problem=f'registry= is not available with runner="{runner}".',
            cause="Jobs that run as processes need no registry.",
            fix=f'Remove registry=, or pass runner="{WITH_REGISTRY}".',
        )
    return runner
