"""Resolve requirements to a lock for a target, with uv."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudknot.errors import ImageError
from cloudknot.program.packages import uv
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.target import InstallTarget


def resolve(
    requirements: Sequence[str], target: InstallTarget, wheels: Sequence[LocalWheel] = (), *, refresh: bool = False
) -> Lock:
    """Return the lock of some requirement lines for a target.

    Parameters
    ----------
    requirements : sequence of str
        pip requirement lines.
    target : InstallTarget
    wheels : sequence of LocalWheel
        Local packages. Their own requirements are resolved too; the packages themselves stay out of the lock.
    refresh : bool
        Whether to resolve again, although a lock of the same input is stored.

    Raises
    ------
    ImageError
        The requirements have no solution, or the index does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = [*requirements]
        for wheel in wheels:
            (Path(folder) / wheel.filename).write_bytes(wheel.content)
            lines.append(f"{wheel.name} @ file://{folder}/{wheel.filename}")
        path = Path(folder, "requirements.in")
        path.write_text("".join(f"{line}\n" for line in lines))
        platform = ["--python-platform", target.tag] if target.tag else []
        command = ["pip", "compile", str(path), "--quiet", "--format", "pylock.toml", "--only-binary", ":all:"]
        answer = uv.run([*command, "--python-version", target.python, *platform])
    if answer.returncode:
        raise ImageError(f"These requirements cannot be resolved: {', '.join(requirements)}. {answer.stderr}")
    names = {wheel.name for wheel in wheels}
    packages = [item for item in tomllib.loads(answer.stdout).get("packages", ()) if item["name"] not in names]
    return Lock(target, tuple(sorted(map(_package, packages), key=lambda package: package.name)))


def _package(item: dict[str, Any]) -> LockedPackage:
    file = item["wheels"][0] if item.get("wheels") else item["sdist"]
    filename = file.get("name") or file["url"].rpartition("/")[2]
    return LockedPackage(
        item["name"], item["version"], filename, file["hashes"]["sha256"], file["url"], file.get("size", 0)
    )
