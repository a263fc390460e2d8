"""Options of the embedded cloud, checked, and compared with those of the running one."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotConfigurationError, CloudknotInputError
from cloudknot.local.runners.choice import RUNNERS, WITH_REGISTRY

if TYPE_CHECKING:
    from cloudknot.local.iam.signing import AccessKey
    from cloudknot.local.state import CloudState

DIRECTORY_VARIABLE = "CLOUDKNOT_LOCAL_DIR"


@dataclass(frozen=True)
class ServerOptions:
    """Options with which a server process is started, see `LocalCloud`. None leaves one at its default."""

    vcpus: float | None = None
    quota: int | None = None
    port: int | None = None
    runner: str | None = None
    registry: str | None = None
    iam: bool | None = None


def default_directory() -> Path:
    """``CLOUDKNOT_LOCAL_DIR``, else ``cloudknot/local`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudknot" / "local"


def given_key(access_key: str | None, secret_key: str | None, token: str | None) -> AccessKey | None:
    """The key that was given; None when none was. Raises `CloudknotInputError` for half of one."""
    if not access_key and not secret_key and not token:
        return None
    if not access_key or not secret_key:
        raise CloudknotInputError("aws_access_key_id and aws_secret_access_key go together: give both, or neither.")
    from cloudknot.local.iam.signing import AccessKey

    return AccessKey(access_key, secret_key, token)


def check_running(directory: Path, wanted: ServerOptions, state: CloudState) -> None:
    """Raise `CloudknotConfigurationError` unless a running cloud has the options that are asked for."""
    lasting = {"runner": state.runner, "registry": state.registry, "iam": state.iam}
    asked_for = asdict(wanted)
    differing = {name: value for name, value in lasting.items() if asked_for[name] not in (None, value)}
    if differing:
        has = ", ".join(f"{name} {value}" for name, value in differing.items())
        asked = ", ".join(f"{name} {asked_for[name]}" for name in differing)
        raise CloudknotConfigurationError(
            f"The local cloud that runs in {directory} has other choices ({has}) than asked for ({asked}). Stop it "
            "with `cloudknot local stop`, or choose another directory."
        )


def checked_runner(runner: str | None, registry: str | None) -> str | None:
    """The runner asked for, by name or by a registry; None when neither was."""
    if runner is None:
        return WITH_REGISTRY if registry is not None else None
    if runner not in RUNNERS:
        names = " or ".join(f'"{name}"' for name in RUNNERS)
        raise CloudknotInputError(f"runner={runner!r} is not acceptable: it must be {names}.")
    if RUNNERS[runner].needs_registry and registry is None:
        raise CloudknotInputError(
            f'runner="{runner}" needs registry="HOST:PORT", where images are pushed to and pulled from.'
        )
    if registry is not None and not RUNNERS[runner].needs_registry:
        raise CloudknotInputError(f'A registry is for runner="{WITH_REGISTRY}" only: processes need none.')
    return runner
