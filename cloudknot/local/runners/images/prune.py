"""Remove images and environments of the embedded cloud that nothing uses.

An image is in use while a knot of the running cloud names it. An environment is in use while it belongs to such an
image, or a job holds it, or another process builds it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloudknot.errors import CKTimeoutError, refuse
from cloudknot.local.directory.disk_use import DiskUse, delete
from cloudknot.local.directory.files import IMAGES
from cloudknot.local.directory.locks import locked
from cloudknot.local.runners.images.contents import recorded_size
from cloudknot.local.runners.images.environments import environments_folder, is_shared, lock_of
from cloudknot.local.runners.images.installed import COPIES
from cloudknot.local.runners.images.usage import removable, unused_seconds

LIMIT_VARIABLE = "CLOUDKNOT_LOCAL_GB"
DEFAULT_LIMIT = 10.0
"""Gigabytes of images and environments, above which those used least recently are removed."""
GIGABYTE = 1e9
HOUR, DAY = 3600.0, 24 * 3600.0
# Bytecode that jobs have written since, in parts of the recorded size. And the files of an image.
_GROWTH, _IMAGE_SIZE = 1.5, 1e6


@dataclass(frozen=True)
class Pruned:
    """The result of a removal.

    Attributes
    ----------
    images, environments : int
        The numbers removed.
    freed : int
        The bytes that the disk has more. Files that uv's cache shares are not among them.
    kept : int
        The number of environments that remain.
    size : int
        The bytes of all images and environments that remain. A file with several links counts once.
    """

    images: int
    environments: int
    freed: int
    kept: int
    size: int


def prune(directory: Path, used: Collection[str], unused_for: float = 0.0) -> Pruned:
    """Remove images and environments that nothing uses. Return their numbers and sizes.

    Parameters
    ----------
    directory : Path
        The directory of the embedded cloud.
    used : collection of str
        The tags of the images that knots use.
    unused_for : float, default 0.0
        Seconds since the last use, below which an image or environment stays. Environments that several clouds share
        stay for a day at least: the knots of other clouds are not known here.
    """
    return _Pruning(directory, used).run(unused_for)


def keep_within_limit(directory: Path, used: Callable[[], Collection[str]]) -> Pruned | None:
    """Remove the images and environments used least recently, until the rest is within the limit.

    Images that knots use stay, and so does everything used within the last hour, whatever the size is.

    Parameters
    ----------
    directory : Path
        The directory of the embedded cloud.
    used : callable
        Returns the tags of the images that knots use. Called only if something must be removed.

    Returns
    -------
    Pruned or None
        None if the limit is not reached.

    Raises
    ------
    CloudknotInputError
        The limit in the environment variable is not a number.
    """
    allowed = limit()
    environments = list(_folders(environments_folder(directory)))
    images = sum(1 for _ in _folders(directory / IMAGES))
    # The true size needs a look at every file, so first an upper bound of it.
    if sum(map(recorded_size, environments)) * _GROWTH + images * _IMAGE_SIZE <= allowed:
        return None
    if _size_of(directory).bytes <= allowed:
        return None
    return _Pruning(directory, used()).run(HOUR, allowed)


def limit() -> float:
    """Return the bytes that images and environments may use, from ``CLOUDKNOT_LOCAL_GB`` or the default."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gigabytes = float(text) if text else DEFAULT_LIMIT
    except ValueError:
        gigabytes = -1.0
    if not gigabytes > 0:
        refuse(
            problem=f"{LIMIT_VARIABLE}={text} is not a number of gigabytes above 0.",
            fix=f"Set for example {LIMIT_VARIABLE}=20, or remove the variable for {DEFAULT_LIMIT:.0f} GB.",
        )
    return gigabytes * GIGABYTE


def remaining_size(directory: Path) -> int:
    """Return the bytes of a cloud's images and environments. A file with several links counts once."""
    return _size_of(directory).bytes


class _Pruning:
    """One pass over all images and environments of a cloud, those used least recently first."""

    def __init__(self, directory: Path, used: Collection[str]) -> None:
        self._directory, self._used = directory, used
        self._folder = environments_folder(directory)
        self._size = _size_of(directory)
        self._images = self._environments = self._freed = 0

    def run(self, unused_for: float, allowed: float = 0.0) -> Pruned:
        """Remove images and environments unused for some seconds, until the size is allowed."""
        images = {image: (image / "environment").resolve() for image in _folders(self._directory / IMAGES)}
        environments = sorted(_folders(self._folder), key=unused_seconds, reverse=True)
        for environment in environments:
            if self._size.bytes <= allowed:
                break
            self._prune_one(
                environment, [image for image in images if images[image] == environment.resolve()], unused_for
            )
        # Images of another folder of environments, and of environments that were removed in another way.
        for image in images:
            if self._size.bytes > allowed and image.is_dir() and not images[image].is_dir():
                self._remove_image(image, unused_for)
        self._remove_leftovers()
        kept = sum(1 for _ in _folders(self._folder))
        return Pruned(self._images, self._environments, self._freed, kept, self._size.bytes)

    def _prune_one(self, environment: Path, images: Iterable[Path], unused_for: float) -> None:
        """Remove an environment with its images; only some images if others are in use."""
        patience = max(unused_for, DAY) if is_shared() else unused_for
        with self._hold(environment) as is_free:
            if not is_free:
                return
            remaining = [image for image in images if not self._remove_image(image, unused_for)]
            if not remaining and unused_seconds(environment) >= patience:
                self._freed += self._size.remove(environment)
                delete(environment)
                self._environments += 1

    @contextlib.contextmanager
    def _hold(self, environment: Path) -> Iterator[bool]:
        """Keep builders out of an environment, and yield whether neither a builder nor a job uses it."""
        try:
            with locked(lock_of(environment), timeout=0.0), removable(environment) as is_free:
                yield is_free
        except CKTimeoutError:
            yield False

    def _remove_image(self, image: Path, unused_for: float) -> bool:
        if image.name in self._used or _age(image) < unused_for:
            return False
        self._freed += self._size.remove(image)
        delete(image)
        self._images += 1
        return True

    def _remove_leftovers(self) -> None:
        """Remove copies of packages that no environment has, and leftovers of killed processes."""
        for copy in _folders(self._folder / COPIES):
            if not any(file.stat().st_nlink > 1 for file in copy.rglob("*.dist-info/METADATA")):
                self._freed += self._size.remove(copy)
                delete(copy)
        for folder in (self._folder, self._folder / COPIES, self._directory / IMAGES):
            for leftover in folder.glob(".*.*") if folder.is_dir() else ():
                if leftover.is_dir() and _age(leftover) > HOUR:
                    self._freed += self._size.remove(leftover)
                    shutil.rmtree(leftover, ignore_errors=True)


def _size_of(directory: Path) -> DiskUse:
    return DiskUse([environments_folder(directory), directory / IMAGES])


def _folders(folder: Path) -> Iterator[Path]:
    """Yield the complete folders in a folder, and none that is being written or deleted."""
    if folder.is_dir():
        yield from (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith("."))


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
