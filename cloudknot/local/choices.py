"""What a person can choose of the embedded cloud, and what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudknot.errors import CloudknotInputError

DIRECTORY_VARIABLE = "CLOUDKNOT_LOCAL_DIR"


@dataclass(frozen=True)
class CloudStatus:
    """A running cloud.

    ``uptime`` and ``idle`` are seconds, ``jobs`` the number of jobs in each state; ``runner`` is ``"process"`` or
    ``"docker"``, and ``registry`` where its images are. ``requests`` holds, of ``"workers"`` and of ``"others"``, by
    operation such as ``"s3:GetObject"``: the number of requests, bytes received with them, bytes sent back.
    """

    endpoint: str
    pid: int
    directory: Path
    vcpus: float
    uptime: float
    idle: float
    jobs: Mapping[str, int] = field(default_factory=dict)
    runner: str = "process"
    registry: str | None = None
    requests: Mapping[str, Mapping[str, tuple[int, int, int]]] = field(default_factory=dict)


def default_directory() -> Path:
    """``CLOUDKNOT_LOCAL_DIR``, else ``cloudknot/local`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudknot" / "local"


def checked_runner(runner: str | None, registry: str | None) -> str | None:
    """The runner asked for, by name or by a registry; None when neither was."""
    if runner not in (None, "process", "docker"):
        raise CloudknotInputError(f'runner={runner!r} is not acceptable: it must be "process" or "docker".')
    if runner == "docker" and registry is None:
        raise CloudknotInputError(
            'runner="docker" needs registry="HOST:PORT", where images are pushed to and pulled from.'
        )
    if runner == "process" and registry is not None:
        raise CloudknotInputError('A registry is for runner="docker" only: processes need none.')
    return runner if registry is None else "docker"
