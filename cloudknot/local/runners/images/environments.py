"""Build the virtual environment of an image, once for each digest.

uv installs exactly the locked files. It links them from its cache, so several environments share the disk space of a
package. Files that the cache lacks are copied from the user's own Python if it has the same package, or downloaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError
from cloudknot.local.directory.claim import check_owner, own_folder
from cloudknot.local.directory.disk_use import delete
from cloudknot.local.directory.files import ENVIRONMENTS
from cloudknot.local.directory.locks import locked
from cloudknot.local.runners.images.contents import damaged_packages, is_intact, mark_complete, site_packages
from cloudknot.local.runners.images.installed import copy_installed, forget
from cloudknot.local.runners.images.usage import mark_used
from cloudknot.options import config
from cloudknot.program.packages import uv
from cloudknot.program.packages.install import install
from cloudknot.program.packages.wheels.namesakes import refuse_other_files

if TYPE_CHECKING:
    from cloudknot.aws.images.image_store import Image
    from cloudknot.program.packages.lock import LockedPackage

ENVIRONMENTS_VARIABLE = "CLOUDKNOT_LOCAL_ENVIRONMENTS"
BUILD_FAILED = "Failed to build"
"""uv's words for a source archive that it could not build."""


def environments_folder(directory: Path) -> Path:
    """Return the folder of all environments: the shared one, or else one in the cloud's directory."""
    return config.directory(ENVIRONMENTS_VARIABLE) or directory / ENVIRONMENTS


def is_shared() -> bool:
    """Return whether several clouds may use the environments."""
    return bool(os.environ.get(ENVIRONMENTS_VARIABLE))


def environment_of(directory: Path, image: Image) -> Path:
    """Return the virtual environment of an image. Build it if it is missing, incomplete or damaged.

    Parameters
    ----------
    directory : Path
        The directory of the embedded cloud.
    image : Image

    Raises
    ------
    CKTimeoutError
        Another process has installed the same packages for longer than an installation may take.
    CloudknotInputError
        The folder belongs to another user.
    ImageError
        The packages cannot be installed.
    """
    folder = own_folder(environments_folder(directory))
    environment = folder / image.environment_digest
    check_owner(environment)
    with locked(lock_of(environment)) as lock:
        if not is_intact(environment):
            delete(environment)
            _build(environment, image, lock)
        mark_used(environment)
    return environment


def lock_of(environment: Path) -> Path:
    """Return the file that a process keeps locked while it builds or removes an environment."""
    return environment.with_name(f"{environment.name}.lock")


def _build(environment: Path, image: Image, lock: int) -> None:
    try:
        python = _create_virtual_environment(environment)
        _Installation(environment, python, image, lock).run()
        (environment / "pylock.toml").write_text(image.lock.text(), encoding="utf-8")
        mark_complete(environment)
    except BaseException:
        # Ctrl-C included: uv has ended by now.
        delete(environment)
        raise


def _create_virtual_environment(environment: Path) -> Path:
    """Create an empty virtual environment for this Python, and return the path of its interpreter."""
    import venv

    python = environment / "bin" / "python"
    try:
        venv.EnvBuilder(symlinks=True).create(environment)
        python.stat()
    except OSError as error:
        raise ImageError(
            f"No virtual environment for jobs can be created in {environment} with {sys.executable}: {error}. Check "
            f"that this Python still exists, and the free space and the permissions of {environment.parent}."
        ) from error
    return python


class _Installation:
    """The installation of an image's packages.

    Parameters
    ----------
    environment : Path
    python : Path
        The environment's interpreter.
    image : Image
    lock : int
        The descriptor of the environment's lock. uv inherits it: if this process dies, uv goes on, and keeps other
        sessions out until it ends.
    """

    def __init__(self, environment: Path, python: Path, image: Image, lock: int) -> None:
        self._environment, self._image, self._lock = environment, image, lock
        self._place = ["--python", str(python)]

    def run(self) -> None:
        """Install all packages, and check every file."""
        packages, copied = self._image.lock.packages, []
        if not self._install_cached(packages):
            # On a full disk, uv may have installed some files.
            if any(site_packages(self._environment).iterdir()):
                delete(self._environment)
                _create_virtual_environment(self._environment)
            copied = copy_installed(packages, self._environment)
            self._install([package for package in packages if package not in copied])
        self._repair(packages)
        for package in (package for package in packages if package not in copied):
            refuse_other_files(package, site_packages(self._environment))

    def _install_cached(self, packages: Sequence[LockedPackage]) -> bool:
        """Install from uv's cache, without the network. Return False if the cache lacks a file."""
        # pip, which replaces a missing uv, would download.
        if uv.find() is None or any(package.is_copy for package in packages):
            return False
        try:
            self._install(packages, "--offline")
        except ImageError:
            return False
        return True

    def _repair(self, packages: Sequence[LockedPackage]) -> None:
        """Download packages again that have a damaged file.

        uv does not check the files in its cache. A program that wrote to a linked file has changed it there, too.
        """
        names = [package.name for package in packages]
        damaged = damaged_packages(self._environment, names)
        if damaged:
            forget(self._environment, damaged)
            again = [f"--{kind}-package={name}" for name in damaged for kind in ("refresh", "reinstall")]
            options = again if uv.find() else ["--force-reinstall"]
            self._install([package for package in packages if package.name in damaged], *options)

    def _install(self, packages: Sequence[LockedPackage], *options: str) -> None:
        self._refuse_copies(packages)
        wheels, lock = self._image.wheels, self._image.lock
        try:
            install(packages, wheels, lock.target, [*self._place, *options], keep_open=[self._lock])
        except ImageError as error:
            sources = [f"{package.name}=={package.version}" for package in lock.sources() if package in packages]
            if sources and BUILD_FAILED in str(error):
                raise ImageError(
                    f"{' and '.join(sources)} has no wheel for {lock.target}, and cannot be built from its source "
                    "archive on this machine. Install the compilers and libraries that it needs, or name a version "
                    f"that has a wheel: Knot(..., requirements=[...]). {error}",
                    log=error.log,
                ) from error
            raise

    @staticmethod
    def _refuse_copies(packages: Sequence[LockedPackage]) -> None:
        """Raise `ImageError` if a package has no file in an index: the lock was made without the network."""
        missing = [f"{package.name}=={package.version}" for package in packages if package.is_copy]
        if missing:
            raise ImageError(
                f"{', '.join(missing)} cannot be copied from the packages of {sys.executable}, and the package index "
                "did not answer. Check the connection to the network, then try again."
            )
