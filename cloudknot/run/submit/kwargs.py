"""Keyword arguments of a map: pickle them once, and store them once for all maps of the knot.

Their key in S3 has the digest of the pickle, so another map with the same arguments, in any session, finds them there.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from cloudknot.errors import CloudknotError, CloudknotInputError
from cloudknot.program.inputs.needs import LackingPackages
from cloudknot.run.submit.shared_objects import claim, discard_unused, release
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.manifest import KEYWORD_SEED
from cloudknot.worker.wire.seal import CHECKSUM, FORMAT, LARGE, checksum, sealed_size, stream_head

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from cloudknot.aws.s3.storage import Storage
    from cloudknot.worker.wire.keys import RunKeys


@dataclass(frozen=True)
class StoredKeywords:
    """The S3 key and the size in bytes of stored keyword arguments with their seal; an empty ``key`` without any."""

    key: str = ""
    size: int = 0


class _HashingWriter(io.RawIOBase):
    """A writer that passes all data to a file, and computes its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        # With the format, because workers of another format could not read the object.
        self._file, self._hash = file, hashlib.sha256(f"format {FORMAT}\n".encode())

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        self._hash.update(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def stored_keywords(
    storage: Storage, keys: RunKeys, knot: str, kwargs: Mapping[str, object], dump: Callable[[IO[bytes], object], None]
) -> Iterator[StoredKeywords]:
    """Store the keyword arguments for a run that the block submits, unless the same ones are stored already.

    If the block fails before the run is submitted, they are deleted again.

    Parameters
    ----------
    storage : Storage
    keys : RunKeys
        The keys of the run.
    knot : str
    kwargs : mapping
    dump : callable
        Pickles a value into a file, in the same way as the function that receives the value.

    Yields
    ------
    StoredKeywords

    Raises
    ------
    CloudknotInputError
        An argument cannot be pickled.
    """
    stored = StoredKeywords()
    try:
        if kwargs:
            from tempfile import TemporaryFile

            # Through a file, because the digest must be known before the key is, and memory should not hold large
            # arguments twice.
            with TemporaryFile() as file:
                digest, size = _pickled(kwargs, file, dump)
                key, missing = claim(storage, knot, digest, keys.run_id)
                stored = StoredKeywords(key, sealed_size(size))
                if missing:
                    storage.upload(key, _record(file, size))
        yield stored
    except BaseException:
        with suppress(CloudknotError):
            # With a manifest there may be a job, for example after a lost answer. It would need the arguments.
            if stored.key and not storage.exists(keys.manifest):
                release(storage, stored.key, keys.run_id)
        raise
    # The run is submitted, so an error of this clean-up must not reach the caller.
    with suppress(CloudknotError):
        if stored.key:
            discard_unused(storage, knot)


def _pickled(
    kwargs: Mapping[str, object], file: IO[bytes], dump: Callable[[IO[bytes], object], None]
) -> tuple[str, int]:
    """Pickle the arguments into a file, and return their digest and size."""
    hashed = _HashingWriter(file)
    _dump(kwargs, hashed, dump)
    size = file.tell()
    file.seek(0)
    return hashed.digest, size


def _dump(kwargs: Mapping[str, object], file: Any, dump: Callable[[IO[bytes], object], None]) -> None:
    try:
        dump(file, dict(kwargs))
    except LackingPackages as lacking:
        lacking.refuse("A value of kwargs")
    except CloudknotInputError as error:
        raise CloudknotInputError(
            f"kwargs cannot be sent to a job: {error}. Nothing was submitted. Pass a file name or a number in its "
            "place, and make the object inside the function."
        ) from error


def _record(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the pieces of the sealed record with the content of a file."""
    if sealed_size(size) > LARGE:
        yield stream_head(_pieces(file), KEYWORD_SEED)
        file.seek(0)
        yield from _pieces(file)
    else:
        payload = file.read()
        yield payload
        yield checksum([payload], KEYWORD_SEED).to_bytes(CHECKSUM, "little")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PART_SIZE):
        yield piece
