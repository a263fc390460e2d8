"""Install locked packages and local wheels with uv."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from cloudknot.errors import ImageError
from cloudknot.program.packages import uv
from cloudknot.program.packages.lock import LocalWheel, LockedPackage
from cloudknot.program.packages.target import InstallTarget


def install(
    packages: Sequence[LockedPackage], wheels: Sequence[LocalWheel], target: InstallTarget, place: Sequence[str]
) -> None:
    """Install exactly these packages, each checked against its hash, without their dependencies.

    Parameters
    ----------
    packages : sequence of LockedPackage
    wheels : sequence of LocalWheel
    target : InstallTarget
    place : sequence of str
        uv's options of the place: ``["--python", ".../bin/python"]`` for a virtual environment, or
        ``["--prefix", ".../layer"]`` for a directory.

    Raises
    ------
    ImageError
        A file cannot be downloaded, or has another hash, or cannot be installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{package.name}=={package.version} --hash=sha256:{package.sha256}" for package in packages]
        for wheel in wheels:
            (Path(folder) / wheel.filename).write_bytes(wheel.content)
            lines.append(f"{wheel.name} @ file://{folder}/{wheel.filename} --hash=sha256:{wheel.sha256}")
        path = Path(folder, "requirements.txt")
        path.write_text("".join(f"{line}\n" for line in lines))
        platform = ["--python-platform", target.tag] if target.tag else []
        command = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", *platform, *place]
        answer = uv.run([*command, "-r", str(path)])
    if answer.returncode:
        raise ImageError(f"These packages cannot be installed: {answer.stderr}")
