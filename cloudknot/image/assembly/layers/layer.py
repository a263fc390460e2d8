"""LayerWriter: write one layer of an image, a compressed tar archive. The same files give the same bytes."""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from cloudknot.errors import ImageError
from cloudknot.image.assembly.layers import layout

# The header of a gzip member without name and time (RFC 1952).
_GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_RAW = -zlib.MAX_WBITS
"""zlib's code for a deflate stream without a header."""


@dataclass(frozen=True)
class Layer:
    """A finished layer.

    Attributes
    ----------
    digest : str
        ``"sha256:..."`` of the compressed bytes, its name in a registry.
    size : int
        The number of compressed bytes.
    diff_id : str
        ``"sha256:..."`` of the tar archive, its name in an image's configuration.
    """

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class Owner:
    """The user and the group of a file, by their numbers."""

    uid: int = 0
    gid: int = 0


ROOT = Owner()


class LayerWriter:
    """Write a layer to a file, one entry after the other.

    Each part is a gzip member of its own, as in eStargz layers. Readers see one archive (RFC 1952, section 2.2). So
    the compressed bytes of a wheel's files are copied as they are: nothing is compressed again, and the layer is the
    same whatever zlib this machine has.

    Parameters
    ----------
    file : binary file
        Written from its position on. Closing it is up to the caller.
    small : bool, default False
        Whether to compress as well as this machine's zlib can, instead of the same everywhere.
    """

    def __init__(self, file: IO[bytes], *, small: bool = False) -> None:
        self._file = file
        # Other implementations of zlib find other repetitions. Runs of one byte are the same for all of them.
        self._strategy = zlib.Z_DEFAULT_STRATEGY if small else zlib.Z_RLE
        self._size = 0
        self._compressed_hash = hashlib.sha256()
        self._tar_hash = hashlib.sha256()
        self._folders: set[str] = set()
        self._pending = b""

    def folder(self, path: str, *, owner: Owner = ROOT) -> None:
        """Add a folder, unless this layer has it."""
        if path not in self._folders:
            self._folders.add(path)
            self._header(path, tarfile.DIRTYPE, mode=0o755, owner=owner)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add_parents(path)
        self._header(path, tarfile.SYMTYPE, mode=0o777, target=target)

    def file(self, path: str, data: bytes, *, mode: int = 0o644, owner: Owner = ROOT) -> None:
        """Add a file."""
        self._add_parents(path)
        self._header(path, tarfile.REGTYPE, mode=mode, size=len(data), owner=owner)
        self._pending += data + _padding(len(data))

    def stream(self, path: str, chunks: Iterable[bytes], *, size: int, mode: int = 0o644) -> None:
        """Add a file of any size from the parts of its content, which ``size`` gives the length of."""
        self._add_parents(path)
        self._header(path, tarfile.REGTYPE, mode=mode, size=size)
        for chunk in chunks:
            self._pending += chunk
            self._flush()
        self._pending += _padding(size)

    def deflated(self, path: str, chunks: Iterable[bytes], *, size: int, crc: int, mode: int = 0o644) -> None:
        """Add a file from its deflated bytes. ``size`` and ``crc`` are those of its content.

        Raises
        ------
        ImageError
            The bytes do not give that content.
        """
        self._add_parents(path)
        self._header(path, tarfile.REGTYPE, mode=mode, size=size)
        self._flush()
        self._write(_GZIP)
        inflater, found_size, found_crc = zlib.decompressobj(_RAW), 0, 0
        for chunk in chunks:
            self._write(chunk)
            # Bounded, because a few deflated bytes may stand for gigabytes.
            while chunk:
                data = inflater.decompress(chunk, 1 << 20)
                self._tar_hash.update(data)
                found_size, found_crc = found_size + len(data), zlib.crc32(data, found_crc)
                chunk = inflater.unconsumed_tail
        data = inflater.flush()
        self._tar_hash.update(data)
        if (
            not inflater.eof
            or inflater.unused_data
            or (found_size + len(data), zlib.crc32(data, found_crc)) != (size, crc)
        ):
            raise ImageError(
                f"The file {path} of a package is damaged. Choose another version of the package in requirements=."
            )
        self._write(struct.pack("<LL", crc, size & 0xFFFFFFFF))
        self._pending = _padding(size)

    def close(self) -> Layer:
        """Write the end of the archive, and return the layer."""
        self._pending += bytes(2 * tarfile.BLOCKSIZE)
        self._flush()
        return Layer(f"sha256:{self._compressed_hash.hexdigest()}", self._size, f"sha256:{self._tar_hash.hexdigest()}")

    def _add_parents(self, path: str) -> None:
        # Folders above belong to the base image, which may have a link in their place.
        parent = path.rpartition("/")[0]
        if parent.startswith(f"{layout.HOME}/") and parent not in self._folders:
            self._add_parents(parent)
            self.folder(parent)

    def _header(
        self, path: str, kind: bytes, *, mode: int, size: int = 0, target: str = "", owner: Owner = ROOT
    ) -> None:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.type, info.mode, info.size, info.linkname = kind, mode, size, target
        info.mtime, info.uid, info.gid = layout.MODIFIED, owner.uid, owner.gid
        self._pending += info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if len(self._pending) > 1 << 16:
            self._flush()

    def _flush(self) -> None:
        """Write pending headers and files as one gzip member."""
        data, self._pending = self._pending, b""
        if not data:
            return
        self._tar_hash.update(data)
        deflater = zlib.compressobj(9, zlib.DEFLATED, _RAW, zlib.DEF_MEM_LEVEL, self._strategy)
        self._write(_GZIP + deflater.compress(data) + deflater.flush())
        self._write(struct.pack("<LL", zlib.crc32(data), len(data) & 0xFFFFFFFF))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._compressed_hash.update(data)
        self._size += len(data)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
