"""Inputs on their way to S3: pickled one by one, joined into one object, with an index of where each begins."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from cloudknot.aws.s3 import PART_SIZE
from cloudknot.errors import CloudknotInputError
from cloudknot.worker.protocol import OFFSET_SIZE

if TYPE_CHECKING:
    from cloudknot.aws.s3 import Storage
    from cloudknot.worker.protocol import RunKeys

PADDING = 0.1
"""Share of the inputs' size that padding may add; what an index would add is always allowed."""


class InputPacker:
    """Pickles elements as they are asked for, and remembers where each begins.

    Parameters
    ----------
    elements : iterable
        Read once.
    dumps : callable
        Pickles one element as the function that will get it was pickled.
    starmap : bool
        Whether each element is a sequence of arguments.
    """

    def __init__(self, elements: Iterable[Any], dumps: Callable[[Any], bytes], starmap: bool) -> None:
        self._elements, self._dumps, self._starmap = elements, dumps, starmap
        self._offsets = array("Q", [0])

    @property
    def count(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[bytes]:
        for index, element in enumerate(self._elements):
            data = self._dump(index, element)
            self._offsets.append(self._offsets[-1] + len(data))
            yield data

    def _dump(self, index: int, element: Any) -> bytes:
        if self._starmap:
            element = self._arguments(index, element)
        try:
            return self._dumps(element)
        except Exception as error:
            raise CloudknotInputError(
                f"Element {index} of the input cannot be pickled ({type(element).__name__}): {error}. Nothing was "
                "submitted. Pass what the element is made from (a file name, a number) and make it in the function."
            ) from error

    def _arguments(self, index: int, element: Any) -> tuple[Any, ...]:
        try:
            return tuple(element)
        except TypeError as error:
            raise CloudknotInputError(
                f"Element {index} of the input is {type(element).__name__}, but starmap=True takes a sequence of "
                "arguments for each call. Nothing was submitted."
            ) from error

    def index(self) -> bytes:
        """The start of every element and the end of the last, 8 bytes each, little endian."""
        offsets = self._offsets
        if sys.byteorder == "big":
            offsets = array("Q", offsets)
            offsets.byteswap()
        return offsets.tobytes()


@dataclass(frozen=True)
class StoredInputs:
    """What was stored: ``count`` elements, each ``stride`` bytes after the one before; 0 means there is an index."""

    count: int
    stride: int


def upload_inputs(storage: Storage, keys: RunKeys, packer: InputPacker) -> StoredInputs:
    """Store the inputs of a run.

    Elements that are small and nearly of one size, such as numbers, are padded to one size: a child then knows where
    its slice is and reads it with one request. All others get an index.
    """
    pieces = iter(packer)
    head = list(_up_to(pieces, PART_SIZE))
    stride = _stride([len(piece) for piece in head])
    if stride:
        storage.put(keys.inputs, b"".join(piece.ljust(stride, b"\0") for piece in head))
        return StoredInputs(packer.count, stride)
    storage.upload(keys.inputs, chain(head, pieces))
    storage.put(keys.index, packer.index())
    return StoredInputs(packer.count, 0)


def _stride(sizes: list[int]) -> int:
    """The size to pad elements to; 0 where they are too large, or padding would take more room than an index."""
    total, stride = sum(sizes), max(sizes)
    padding = stride * len(sizes) - total
    return stride if total < PART_SIZE and padding <= max(OFFSET_SIZE * len(sizes), PADDING * total) else 0


def _up_to(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces until they make ``size`` bytes."""
    taken = 0
    while taken < size and (piece := next(pieces, None)) is not None:
        taken += len(piece)
        yield piece
