"""ObjectWriter: collects the data of a new object, in memory while it is small, then in a file beside the others."""

from __future__ import annotations

from types import TracebackType

from cloudknot.local.s3.records import Extent
from cloudknot.local.s3.storage.files import DataFiles, NewFile

SMALL = 32 * 1024
"""Bytes up to which the data of an object is in the database itself."""
ROOM_FOR = 16 << 20
"""Bytes to find room for at a time while the length is unknown."""


class ObjectWriter:
    """The data of a new object or part. Used in a ``with`` block, which drops the data unless they were stored.

    Parameters
    ----------
    files : DataFiles
    length : int, optional
        Bytes that will come. `OSError` if the disk has no room for them.
    needs_room : bool, default True
        False for small data that replaces other data.
    """

    def __init__(self, files: DataFiles, length: int | None = None, *, needs_room: bool = True) -> None:
        self.size = 0
        self._files = files
        self._small = bytearray()
        self._file: NewFile | None = None
        self._announced = 0
        if length is None or length <= SMALL:
            # A deletion may store marks without data first, also on a full disk.
            if needs_room and length != 0:
                files.announce(0)
        else:
            self._announce(length)

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append a block. The caller may reuse its buffer afterwards."""
        self.size += len(block)
        if self.size <= SMALL:
            self._small += block
            return
        self._write_to_file(memoryview(block).cast("B"))

    def finish(self, *, is_part: bool = False) -> tuple[bytes | None, tuple[Extent, ...]]:
        """Return the data of a small object, or the extents of finished files. Called once, by the store.

        Parameters
        ----------
        is_part : bool, default False
            Whether a file is needed for small data too.
        """
        if self.size <= SMALL and not is_part:
            return bytes(self._small), ()
        self._write_to_file(memoryview(b""))
        file = self._file
        assert file is not None
        name = self._files.keep(file)
        # The store owns the file from here on.
        self._file = None
        return None, (Extent(name, 0, self.size),)

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._announced:
            self._files.room.withdraw(self._announced)
            self._announced = 0
        file, self._file = self._file, None
        if file is not None:
            file.drop()

    def _write_to_file(self, block: memoryview) -> None:
        if self._file is None:
            self._file = self._files.create()
            with memoryview(self._small) as small:
                self._take_room(len(small))
                self._file.write(small)
            self._small.clear()
        self._take_room(len(block))
        self._file.write(block)

    def _take_room(self, size: int) -> None:
        """Use announced room for bytes about to be written. Announce more if that is not enough."""
        if size > self._announced:
            self._announce(max(ROOM_FOR, size))
        self._announced -= size
        self._files.room.withdraw(size)

    def _announce(self, size: int) -> None:
        self._files.announce(size)
        self._announced += size
