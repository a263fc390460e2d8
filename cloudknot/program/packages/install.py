"""Install locked packages and local wheels with uv, or with pip where uv is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError
from cloudknot.program.packages import indexes, pip, uv
from cloudknot.program.packages.download import download
from cloudknot.program.packages.indexes import Indexes
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.solving.failures import shortened
from cloudknot.program.packages.target import InstallTarget

if TYPE_CHECKING:
    import subprocess

TIMEOUT = 60 * 60.0
"""Seconds for the download and the installation. CUDA's wheels have several gigabytes."""


def install(
    packages: Sequence[LockedPackage],
    wheels: Sequence[LocalWheel],
    target: InstallTarget,
    place: Sequence[str],
    *,
    timeout: float = TIMEOUT,
    keep_open: Collection[int] = (),
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
    timeout : float
        Seconds.
    keep_open : collection of int
        Descriptors of locked files that uv holds as well, in case this process is killed.

    Raises
    ------
    ImageError
        A file cannot be downloaded, or has another hash, or cannot be installed.
    """
    # uv refuses a lock without packages.
    if not packages and not wheels:
        return
    run = _with_uv if uv.find() else _with_pip
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        local = [_written(wheel, Path(name)) for wheel in wheels]
        answer = run((*packages, *local), target, place, Path(name), timeout, keep_open)
    if answer.returncode:
        report = shortened(indexes.redacted(answer.stderr).replace(name, ""))
        raise ImageError(
            "The packages of the lock cannot be installed. Check the network and the free disk space, or resolve the "
            f"requirements again with no_image_cache=True. The installer reports: {report}",
            log=report,
        )


def _with_uv(
    packages: tuple[LockedPackage, ...],
    target: InstallTarget,
    place: Sequence[str],
    folder: Path,
    timeout: float,
    keep_open: Collection[int],
) -> subprocess.CompletedProcess[str]:
    # A lock file names the address of each file, so uv asks no index.
    path = folder / "pylock.toml"
    path.write_text(Lock(target, packages).text(with_folders=True), encoding="utf-8")
    platform = ["--python-platform", target.tag] if target.tag else []
    command = ["pip", "install", "--quiet", "--no-deps", *platform, *place, "-r", str(path)]
    return uv.run(command, timeout=timeout, keep_open=keep_open)


def _with_pip(
    packages: tuple[LockedPackage, ...],
    target: InstallTarget,
    place: Sequence[str],
    folder: Path,
    timeout: float,
    keep_open: Collection[int],
) -> subprocess.CompletedProcess[str]:
    # pip reads no lock file before version 25.1. It takes the downloaded files as those of an index.
    for package in packages:
        if not (folder / package.filename).exists():
            download(package, folder)
    lines = [f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n" for package in packages]
    path = folder / "requirements.txt"
    path.write_text("".join(lines), encoding="utf-8")
    options = [option for option in place if option != "--offline"]
    # pip takes this option before its command.
    before = options[:2] if options[:1] == ["--python"] else []
    command = [*before, "install", "--quiet", "--no-deps", "--no-index", "--find-links", str(folder)]
    return pip.run(
        [*command, *options[len(before) :], "-r", str(path)], Indexes(), timeout=timeout, keep_open=keep_open
    )


def _written(wheel: LocalWheel, folder: Path) -> LockedPackage:
    path = folder / wheel.filename
    path.write_bytes(wheel.content)
    return LockedPackage(wheel.name, wheel.version, wheel.filename, wheel.sha256, path.as_uri())
