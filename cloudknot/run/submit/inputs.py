"""Inputs: pickle elements one by one, and store them as one S3 object, with an index of their offsets if needed."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from cloudknot.errors import CloudknotInputError
from cloudknot.program.inputs.needs import LackingPackages
from cloudknot.program.inputs.random_state import SharedGenerators
from cloudknot.worker.s3.limits import PART_SIZE
from cloudknot.worker.wire.buffers import PieceFile, Pieces, size_of
from cloudknot.worker.wire.input_index import OFFSET_SIZE, pack_entry
from cloudknot.worker.wire.manifest import input_seed
from cloudknot.worker.wire.seal import CHECKSUM, LARGE, checksum, numbered, sealed

if TYPE_CHECKING:
    from cloudknot.aws.s3.storage import Storage
    from cloudknot.program.inputs.arguments import CallCheck
    from cloudknot.worker.wire.keys import RunKeys

PADDING = 0.1
"""Share of the inputs' size that padding may add. As many bytes as an index would take are always allowed."""
PADDING_BYTES = 32 * 1024
"""Bytes that padding may always add. They cost less than a request for the index in each child."""

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
    calls : CallCheck, optional
        The check of the number of arguments, with ``starmap``. Default: none.
    is_lasting : bool
        Whether the elements stay as they are while later ones are read. Those of a generator may share memory.

    Attributes
    ----------
    count : int
        Number of elements pickled so far.
    lengths : list of int
        With ``starmap``, the least and the largest number of arguments of an element so far.
    """

    def __init__(
        self,
        elements: Iterable[object],
        dump: Dump,
        starmap: bool,
        calls: CallCheck | None = None,
        is_lasting: bool = False,
    ) -> None:
        self._elements, self._dump, self._starmap, self._calls = elements, dump, starmap, calls
        self.is_lasting = is_lasting
        self._generators = SharedGenerators()
        self.count = 0
        self.lengths: list[int] = []

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
        self._generators.check(index, element)
        file = PieceFile()
        try:
            self._dump(file, element)
        except LackingPackages as lacking:
            lacking.refuse(f"Element {index} of the input")
        except Exception as error:
            raise CloudknotInputError(
                f"Element {index} of the input, of type {type(element).__name__}, cannot be sent to a job: {error}. "
                "Nothing was submitted. Pass a file name or a number in its place, and make the object inside the "
                "function."
            ) from error
        return file.pieces()

    def _arguments(self, index: int, element: Any) -> tuple[Any, ...]:
        try:
            arguments = tuple(element)
        except TypeError as error:
            raise CloudknotInputError(
                f"Element {index} of the input is of type {type(element).__name__}, but starmap=True needs a sequence "
                "of arguments. Nothing was submitted. Pass tuples, such as [(1, 2), (3, 4)], or leave out starmap."
            ) from error
        if self._calls is not None:
            self._calls.check_number(index, len(arguments))
        if len(arguments) not in self.lengths:
            known = [*self.lengths, len(arguments)]
            self.lengths = sorted({min(known), max(known)})
        return arguments


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
    seed = input_seed(keys.run_id)
    head = _Head(seed)
    rest = head.take(elements)
    if stride := head.stride:
        # Small elements of nearly one size, such as numbers. A child computes where its slice is, and reads it by one
        # request in place of two. Padding is harmless, because a pickle ends with a mark.
        storage.put(keys.inputs, head.padded(stride))
        return StoredInputs(packer.count, stride)
    _upload(storage, keys, chain(head.drain(), rest), seed, packer.is_lasting)
    return StoredInputs(packer.count, 0)


def _upload(storage: Storage, keys: RunKeys, elements: Iterable[Pieces], seed: int, is_lasting: bool) -> None:
    """Store elements, each with a seal, and the index of their offsets."""
    # Both go to S3 in parts, so memory holds one element and a few parts, whatever the size of the input. Arrays in a
    # list are sent from their own memory.
    offset = 0
    with storage.uploading(keys.inputs) as inputs, storage.uploading(keys.index) as index:
        index.write(pack_entry(0, 0, seed))
        add = inputs.lend if is_lasting else inputs.write
        for number, pieces in enumerate(elements):
            record = sealed(pieces, numbered(seed, number))
            for piece in record:
                add(piece)
            offset += size_of(record)
            index.write(pack_entry(offset, number + 1, seed))
            del piece, pieces, record


class _Head:
    """The first elements of an input, together smaller than one part of an upload.

    They share one buffer, because lists of pieces would take ten times the memory of small elements. ``seed`` is that
    of the inputs.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._data, self._sizes = bytearray(), array("I")
        self._is_all = False

    def take(self, elements: Iterator[Pieces]) -> Iterator[Pieces]:
        """Take the first elements, and return the others."""
        for pieces in elements:
            size = size_of(pieces)
            if len(self._data) + size >= PART_SIZE:
                # Not into the buffer, because the element may be large.
                return _prepend([pieces], elements)
            self._sizes.append(size)
            for piece in pieces:
                self._data += piece
            # Pieces of an array are its own memory, so they are freed before the next element is made.
            del piece, pieces
        self._is_all = True
        return elements

    @property
    def stride(self) -> int:
        """The size to pad records to; 0 if there are more elements than these, or padding would add too much."""
        if not self._is_all:
            return 0
        total, stride, count = len(self._data), max(self._sizes), len(self._sizes)
        allowed = max(OFFSET_SIZE * count, PADDING * total, PADDING_BYTES)
        return stride + CHECKSUM if stride * count - total <= allowed and stride + CHECKSUM <= LARGE else 0

    def padded(self, stride: int) -> bytes:
        """Return all elements as records of ``stride`` bytes, and free the buffer."""
        padded, start = bytearray(stride * len(self._sizes)), 0
        with memoryview(self._data) as view, memoryview(padded) as records:
            for number, size in enumerate(self._sizes):
                record = records[number * stride : (number + 1) * stride]
                record[:size] = view[start : start + size]
                # The checksum covers the padding too.
                proof = checksum([record[:-CHECKSUM]], numbered(self._seed, number))
                record[-CHECKSUM:] = proof.to_bytes(CHECKSUM, "little")
                start += size
                del record
        self._data = bytearray()
        # boto3 takes a bytearray too, without a copy.
        return cast(bytes, padded)

    def drain(self) -> Iterator[Pieces]:
        """Yield all elements in order, and free the buffer after the last one."""
        data, self._data = memoryview(self._data), bytearray()
        start = 0
        for size in self._sizes:
            yield [data[start : start + size]]
            start += size


def _prepend(first: list[Pieces], rest: Iterator[Pieces]) -> Iterator[Pieces]:
    """Yield the one element of ``first``, then the rest."""
    # Removed from its list, so that memory does not hold it while the next element is made.
    yield first.pop()
    yield from rest
