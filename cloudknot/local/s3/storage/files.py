"""DataFiles: the data of larger objects, one immutable file each. A new file is written beside, synced and renamed."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cloudknot.local.directory.full_disk import Room
from cloudknot.local.s3.records import Extent
from cloudknot.local.wsgi import Segment

SYNC_EVERY = 16 << 20
"""Bytes after which the disk begins to write a file that still grows."""
SYNC_THREADS = 4
GRACE = 1.0
"""Seconds for which a file without an object stays, for a request that has found the object and not yet opened it."""
FREED_TIMEOUT = 5.0
"""Seconds that a request on a full disk waits for the space of deleted objects."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Write the data of an open file to the disk. macOS has no fdatasync."""


class MissingFile(Exception):
    """A data file that is gone: its object was deleted, or something else deleted the file. Has its path."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class NewFile:
    """A data file that is being written.

    Parameters
    ----------
    path : Path
        Beside the finished files.
    syncs : ThreadPoolExecutor
        Syncs the file while it grows. The disk then works at the same time as the sender and the processor.
    """

    def __init__(self, path: Path, syncs: ThreadPoolExecutor) -> None:
        self.path = path
        self._syncs = syncs
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._unsynced = 0
        self._sync: Future[None] | None = None

    def write(self, block: memoryview) -> None:
        """Append a block."""
        while block:
            written = os.write(self._file, block)
            self._unsynced += written
            block = block[written:]
        if self._unsynced >= SYNC_EVERY and (self._sync is None or self._sync.done()):
            self._join()
            self._unsynced = 0
            self._sync = self._syncs.submit(_sync_data, self._file)

    def finish(self) -> None:
        """Write the rest to the disk, and close the file."""
        self._join()
        # Not fdatasync: the length and the name of the file are new.
        os.fsync(self._file)
        self._close()

    def drop(self) -> None:
        """Delete the file."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self._join()
            self._close()
        self.path.unlink(missing_ok=True)

    def _join(self) -> None:
        """Wait for the running sync. Its error is an error of this file."""
        sync, self._sync = self._sync, None
        if sync is not None:
            sync.result()

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)


class PinnedFile(io.RawIOBase):
    """A data file for reading that stays on the disk until this is closed. The system's file is opened when needed.

    An object of 10,000 parts needs no 10,000 open files.
    """

    def __init__(self, files: DataFiles, name: str) -> None:
        super().__init__()
        self._files, self._name = files, name
        self._file: io.FileIO | None = None
        files.pin(name)

    def fileno(self) -> int:
        return self._opened().fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._opened().seek(offset, whence)

    def readinto(self, buffer: object) -> int:
        return self._opened().readinto(buffer)  # type: ignore[arg-type]

    def read(self, size: int = -1) -> bytes:
        return self._opened().read(size)

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._file is not None:
            self._file.close()
        self._files.unpin(self._name)

    def _opened(self) -> io.FileIO:
        if self._file is None:
            self._file = io.FileIO(self._files.path(self._name))
        return self._file


class DataFiles:
    """The folder of the data files.

    Parameters
    ----------
    directory : Path
        Created if it is missing. Files that an earlier process left unfinished are deleted.
    generation : int
        The number of this process in the life of the store. It is in the name of each new file.
    """

    def __init__(self, directory: Path, generation: int) -> None:
        self._incoming, self._folders = directory / "incoming", directory / "data"
        self._generation = generation
        for folder in (self._incoming, self._folders):
            folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)
        self.room = Room(directory)
        self._syncs = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync")
        self._folders_lock = threading.Lock()
        self._on_disk = set(os.listdir(self._folders))
        # An earlier process may have ended before its own sync.
        sync_folder(self._folders)
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._free: queue.SimpleQueue[tuple[float, tuple[str, ...]] | None] = queue.SimpleQueue()
        self._unswept, self._swept = 0, threading.Condition(self._lock)
        self._is_closed = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="objects-sweeper", daemon=True)
        self._sweeper.start()

    def create(self) -> NewFile:
        """Return a new file. `keep` or `NewFile.drop` ends it."""
        # The system's own random numbers: an equal name would replace the data of another object.
        name = f"{secrets.token_hex(16)}-{self._generation:x}"
        return NewFile(self._incoming / name, self._syncs)

    def keep(self, file: NewFile) -> str:
        """Finish a file, and return its name. It is on the disk when this returns."""
        file.finish()
        path = self.path(file.path.name)
        self._require_folder(path.parent)
        os.rename(file.path, path)
        sync_folder(path.parent)
        return path.name

    def path(self, name: str) -> Path:
        """Return the path of a finished file."""
        return self._folders / name[:2] / name

    def open(self, extents: Iterable[Extent], start: int, end: int) -> list[Segment]:
        """Return the bytes from ``start`` to before ``end`` of joined extents. `MissingFile` if a file is gone."""
        segments: list[Segment] = []
        try:
            for extent, first, last in cut(extents, start, end):
                file = PinnedFile(self, extent.file)
                segments.append(Segment(file, extent.start + first, last - first))
                # Pinned first: the sweeper deletes no file between this check and its use.
                if not self.path(extent.file).exists():
                    raise MissingFile(self.path(extent.file))
        except BaseException:
            for segment in segments:
                segment.file.close()
            raise
        return segments

    def _require_folder(self, folder: Path) -> None:
        """Create a folder for finished files if it is missing. Its name is on the disk when this returns."""
        # Something else may delete an empty folder.
        if folder.name in self._on_disk and folder.exists():
            return
        # Nobody else may use the folder before its name is synced: a power cut would take its files.
        with self._folders_lock:
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folders)
            self._on_disk.add(folder.name)

    def pin(self, name: str) -> None:
        """Keep a file on the disk until `unpin`."""
        with self._lock:
            self._pins[name] += 1

    def unpin(self, name: str) -> None:
        """Take back a `pin`. The last one of a file without an object deletes the file."""
        with self._lock:
            self._pins[name] -= 1
            if self._pins[name]:
                return
            del self._pins[name]
            is_free = name in self._kept
            self._kept.discard(name)
        if is_free:
            self._put((0.0, (name,)))

    def free(self, names: Iterable[str]) -> None:
        """Delete files that belong to no object any more, soon and in another thread."""
        names = tuple(names)
        if names:
            self._put((time.monotonic() + GRACE, names))

    def announce(self, size: int) -> None:
        """Keep room for ``size`` more bytes, or for small data with 0. `OSError` if the disk is full with them."""
        take = partial(self.room.announce, size) if size else self.room.require
        try:
            take()
        except OSError:
            # The files of deleted objects stay for another moment.
            with self._lock:
                is_freed = self._unswept > 0 and self._swept.wait_for(lambda: not self._unswept, FREED_TIMEOUT)
            if not is_freed:
                raise
            take()

    def names(self, folder: str) -> set[str]:
        """Return the names of the finished files in a folder. A name begins with that of its folder."""
        try:
            return set(os.listdir(self._folders / folder))
        except FileNotFoundError:
            return set()

    def is_own(self, name: str) -> bool:
        """Return whether this process wrote a file."""
        return name.endswith(f"-{self._generation:x}")

    def close(self) -> None:
        """End the threads. Freed files are deleted before this returns."""
        self._is_closed.set()
        self._free.put(None)
        self._sweeper.join()
        self._syncs.shutdown()

    def _put(self, freed: tuple[float, tuple[str, ...]]) -> None:
        with self._lock:
            self._unswept += 1
        self._free.put(freed)

    def _sweep(self) -> None:
        while (freed := self._free.get()) is not None:
            due, names = freed
            self._is_closed.wait(max(0.0, due - time.monotonic()))
            for name in names:
                self._remove(name)
            with self._lock:
                self._unswept -= 1
                self._swept.notify_all()

    def _remove(self, name: str) -> None:
        """Delete a file, or leave that to the last request that reads it."""
        with self._lock:
            if name in self._pins:
                self._kept.add(name)
                return
            # A file that is left is deleted at the next start.
            with contextlib.suppress(OSError):
                self.path(name).unlink()


def cut(extents: Iterable[Extent], start: int, end: int) -> Iterator[tuple[Extent, int, int]]:
    """Yield the extents that hold the bytes from ``start`` to before ``end``, with the range in each of them."""
    offset = 0
    for extent in extents:
        first, last = max(start - offset, 0), min(end - offset, extent.size)
        if first < last:
            yield extent, first, last
        offset += extent.size


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
