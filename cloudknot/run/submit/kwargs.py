"""Keyword arguments of a whole map: pickled once, stored once, and read once by each child.

They may be large, so they are pickled through a file and uploaded from it in parts. Their key in S3 has the digest of
the pickle, within the knot's prefix: another map with the same arguments, also in another session, finds them there.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from cloudknot.errors import CloudknotError, CloudknotInputError
from cloudknot.run.submit.shared_objects import claim, discard_unused, release
from cloudknot.worker.s3.limits import PART_SIZE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from cloudknot.aws.s3.storage import Storage
    from cloudknot.program.program import Program
    from cloudknot.worker.wire.keys import RunKeys


@dataclass(frozen=True)
class StoredKeywords:
    """Where the keyword arguments are, and how many bytes; an empty ``key`` when there are none."""

    key: str = ""
    size: int = 0


class _Hashed(io.RawIOBase):
    """Passes on what is written, and keeps its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        self._hash.update(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def refuse_unknown(program: Program | None, kwargs: Mapping[str, object], starmap: bool) -> None:
    """Refuse keyword arguments that the function does not take, where its signature is known.

    Raises
    ------
    CloudknotInputError
        The message says which argument, as Python words it.
    """
    if not kwargs or program is None:
        return
    if program.script:
        raise CloudknotInputError(
            "kwargs are for a function, and this knot runs a script. Put them into the elements."
        )
    if program.signature is None:
        return
    try:
        program.signature.bind_partial(*(() if starmap else (None,)), **kwargs)
    except TypeError as error:
        raise CloudknotInputError(
            f"kwargs do not fit {program.name}{program.signature}: {error}. Nothing was submitted."
        ) from error


@contextmanager
def stored_keywords(
    storage: Storage, keys: RunKeys, knot: str, kwargs: Mapping[str, object], dump: Callable[[IO[bytes], object], None]
) -> Iterator[StoredKeywords]:
    """Store keyword arguments, unless the same ones are there, for the run that is submitted in the block.

    If the block fails, and no run was submitted, they are deleted again.

    Parameters
    ----------
    storage : Storage
    keys : RunKeys
        Where the run's objects are.
    knot : str
    kwargs : mapping
    dump : callable
        Pickles into a file a value, as the function that will get it was pickled.

    Raises
    ------
    CloudknotInputError
        One of them cannot be pickled.
    """
    stored = StoredKeywords()
    try:
        if kwargs:
            from tempfile import TemporaryFile

            with TemporaryFile() as file:
                digest, size = _pickled(kwargs, file, dump)
                key, missing = claim(storage, knot, digest, keys.run_id)
                stored = StoredKeywords(key, size)
                if missing:
                    storage.upload(key, _pieces(file))
        yield stored
    except BaseException:
        with suppress(CloudknotError):
            if stored.key and not storage.exists(keys.manifest):
                release(storage, stored.key, keys.run_id)
        raise
    with suppress(CloudknotError):
        if stored.key:
            discard_unused(storage, knot)


def _pickled(
    kwargs: Mapping[str, object], file: IO[bytes], dump: Callable[[IO[bytes], object], None]
) -> tuple[str, int]:
    """Pickle into a file, and give the digest and the size."""
    hashed = _Hashed(file)
    _dump(kwargs, hashed, dump)
    size = file.tell()
    file.seek(0)
    return hashed.digest, size


def _dump(kwargs: Mapping[str, object], file: Any, dump: Callable[[IO[bytes], object], None]) -> None:
    try:
        dump(file, dict(kwargs))
    except CloudknotInputError as error:
        raise CloudknotInputError(
            f"kwargs cannot be sent to a job: {error}. Nothing was submitted. Pass what it is made from (a file name, "
            "a number) and make it in the function."
        ) from error


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PART_SIZE):
        yield piece
