"""Inputs: pickle elements one by one, and store them as one S3 object, with an index of their offsets if needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from cloudknot.errors import CloudknotInputError
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.buffers import PieceFile, Pieces, size_of
from cloudknot.worker.wire.input_index import OFFSET_SIZE, pack_offset

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage
    from cloudknot.worker.wire.keys import RunKeys

PADDING = 0.1
"""Share of the inputs' size that padding may add. As many bytes as an index would take are always allowed."""

Dump = Callable[[Any, Any], None]
"""Pickles a value into a `PieceFile`, in the same way as the function that receives the value."""


class InputPacker:
    """An iterator of pickled elements, each a list of pieces.

    Parameters
    ----------
    elements : iterable
        Read once, one element at a time.
    dump : callable
        See `Dump`.
    starmap : bool
        Whether each element is a sequence of arguments.

    Attributes
    ----------
    count : int
        Number of elements pickled so far.
    """

    def __init__(self, elements: Iterable[object], dump: Dump, starmap: bool) -> None:
        self._elements, self._dump, self._starmap = elements, dump, starmap
        self.count = 0

    def __iter__(self) -> Iterator[Pieces]:
        for element in self._elements:
            pieces = self._pickle(self.count, element)
            self.count += 1
            yield pieces
            # Pieces of a large array are its own memory, so they are freed before the next element is made.
            del element, pieces

    def _pickle(self, index: int, element: object) -> Pieces:
        if self._starmap:
            element = self._arguments(index, element)
        file = PieceFile()
        try:
            self._dump(file, element)
        except Exception as error:
            raise CloudknotInputError(
                f"Element {index} of the input, of type {type(element).__name__}, cannot be sent to a job: {error}. "
                "Nothing was submitted. Pass a file name or a number in its place, and make the object inside the "
                "function."
            ) from error
        return file.pieces()

    def _arguments(self, index: int, element: Any) -> tuple[Any, ...]:
        try:
            return tuple(element)
        except TypeError as error:
            raise CloudknotInputError(
                f"Element {index} of the input is of type {type(element).__name__}, but starmap=True needs a sequence "
                "of arguments. Nothing was submitted. Pass tuples, such as [(1, 2), (3, 4)], or leave out starmap."
            ) from error


@dataclass(frozen=True)
class StoredInputs:
    """The layout of stored inputs: ``count`` elements at a distance of ``stride`` bytes; 0 means by an index."""

    count: int
    stride: int


def upload_inputs(storage: Storage, keys: RunKeys, packer: InputPacker) -> StoredInputs:
    """Store the inputs of a run as one object, and return their layout."""
    # One object for each element would cost a request each, here and in the job. Each child reads its slice of the one
    # object by a byte range.
    elements = iter(packer)
    head = list(_take_bytes(elements, PART_SIZE))
    stride = _stride([size_of(pieces) for pieces in head])
    if stride:
        # Small elements of nearly one size, such as numbers. A child computes where its slice is, and reads it by one
        # request in place of two. Padding is harmless, because a pickle ends with a mark.
        storage.put(keys.inputs, b"".join(b"".join(pieces).ljust(stride, b"\0") for pieces in head))
        return StoredInputs(packer.count, stride)
    _upload(storage, keys, chain(_drain(head), elements))
    return StoredInputs(packer.count, 0)


def _upload(storage: Storage, keys: RunKeys, elements: Iterable[Pieces]) -> None:
    """Store elements and the index of their offsets."""
    # Both go to S3 in parts, so memory holds one element and a few parts, whatever the size of the input.
    offset = 0
    with storage.uploading(keys.inputs) as inputs, storage.uploading(keys.index) as index:
        index.write(pack_offset(0))
        for pieces in elements:
            for piece in pieces:
                inputs.write(piece)
            offset += size_of(pieces)
            index.write(pack_offset(offset))
            del piece, pieces


def _stride(sizes: list[int]) -> int:
    """Return the size to pad elements to; 0 if they fill a part of an upload, or padding would add too much."""
    total, stride = sum(sizes), max(sizes)
    padding = stride * len(sizes) - total
    return stride if total < PART_SIZE and padding <= max(OFFSET_SIZE * len(sizes), PADDING * total) else 0


def _take_bytes(elements: Iterator[Pieces], size: int) -> Iterator[Pieces]:
    """Yield elements until they have ``size`` bytes together."""
    total = 0
    while total < size and (pieces := next(elements, None)) is not None:
        total += size_of(pieces)
        yield pieces


def _drain(elements: list[Pieces]) -> Iterator[Pieces]:
    """Yield the elements in order, and remove each from the list, so that memory does not hold them twice."""
    elements.reverse()
    while elements:
        yield elements.pop()
