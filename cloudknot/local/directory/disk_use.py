"""The disk space of folders whose files have several links, and their deletion."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = 512
"""Bytes of the unit of ``st_blocks``, whatever the file system's own blocks are."""


def delete(folder: Path) -> None:
    """Delete a folder if it exists. It disappears at once, so that nobody sees half of it."""
    trash = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


class _File(NamedTuple):
    device: int
    inode: int


class DiskUse:
    """The disk space of some folders. A file with several links counts once.

    Parameters
    ----------
    folders : iterable of Path
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self._links: Counter[_File] = Counter()
        self.bytes = 0
        for folder in folders:
            for file, status in _files(folder):
                self._links[file] += 1
                if self._links[file] == 1:
                    self.bytes += status.st_blocks * BLOCK

    def remove(self, folder: Path) -> int:
        """Take a folder's files out of the count, before they are deleted. Return the bytes that this frees.

        uv's cache may have further links to a file. Then its deletion here frees nothing.
        """
        freed, links = 0, Counter[_File]()
        for file, status in _files(folder):
            links[file] += 1
            self._links[file] -= 1
            if self._links[file] == 0:
                self.bytes -= status.st_blocks * BLOCK
            if links[file] == status.st_nlink:
                freed += status.st_blocks * BLOCK
        return freed


def _files(folder: Path) -> Iterator[tuple[_File, os.stat_result]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(f"{parent}/{name}")
            except FileNotFoundError:
                continue
            if not stat.S_ISLNK(status.st_mode):
                yield _File(status.st_dev, status.st_ino), status
