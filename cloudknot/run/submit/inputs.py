"""Inputs on their way to S3: pickled one by one, joined into one object, with an index of where each begins."""

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
"""Share of the inputs' size that padding may add; what an index would add is always allowed."""


Dump = Callable[[Any, Any], None]
"""Pickles into a `PieceFile` a value, as the function that will get it was pickled."""


class InputPacker:
    """Pickles elements as they are asked for, each into pieces, of which large ones are parts of the element itself.

    Parameters
    ----------
    elements : iterable
        Read once.
    dump : callable
    starmap : bool
        Whether each element is a sequence of arguments.
    """

    def __init__(self, elements: Iterable[object], dump: Dump, starmap: bool) -> None:
        self._elements, self._dump, self._starmap = elements, dump, starmap
        self.count = 0

    def __iter__(self) -> Iterator[Pieces]:
        for element in self._elements:
            pieces = self._pickle(self.count, element)
            self.count += 1
            yield pieces
            # They may be large: nothing of them is held while the next element is made.
            del element, pieces

    def _pickle(self, index: int, element: object) -> Pieces:
        if self._starmap:
            element = self._arguments(index, element)
        file = PieceFile()
        try:
            self._dump(file, element)
        except Exception as error:
            raise CloudknotInputError(
                f"Element {index} of the input cannot be pickled ({type(element).__name__}): {error}. Nothing was "
                "submitted. Pass what the element is made from (a file name, a number) and make it in the function."
            ) from error
        return file.pieces()

    def _arguments(self, index: int, element: Any) -> tuple[Any, ...]:
        try:
            return tuple(element)
        except TypeError as error:
            raise CloudknotInputError(
                f"Element {index} of the input is {type(element).__name__}, but starmap=True takes a sequence of "
                "arguments for each call. Nothing was submitted."
            ) from error


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
    elements = iter(packer)
    head = list(_up_to(elements, PART_SIZE))
    stride = _stride([size_of(pieces) for pieces in head])
    if stride:
        storage.put(keys.inputs, b"".join(b"".join(pieces).ljust(stride, b"\0") for pieces in head))
        return StoredInputs(packer.count, stride)
    _upload(storage, keys, chain(_taken(head), elements))
    return StoredInputs(packer.count, 0)


def _upload(storage: Storage, keys: RunKeys, elements: Iterable[Pieces]) -> None:
    """Store elements, and where each begins: neither they nor the index are in memory as a whole."""
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
    """The size to pad elements to; 0 where they are too large, or padding would take more room than an index."""
    total, stride = sum(sizes), max(sizes)
    padding = stride * len(sizes) - total
    return stride if total < PART_SIZE and padding <= max(OFFSET_SIZE * len(sizes), PADDING * total) else 0


def _up_to(elements: Iterator[Pieces], size: int) -> Iterator[Pieces]:
    """Elements until they make ``size`` bytes."""
    taken = 0
    while taken < size and (pieces := next(elements, None)) is not None:
        taken += size_of(pieces)
        yield pieces


def _taken(elements: list[Pieces]) -> Iterator[Pieces]:
    """Elements in order, each held no longer than until the next is asked for."""
    elements.reverse()
    while elements:
        yield elements.pop()
