"""Inputs on their way to S3: pickled one by one, joined into one object, with an index of where each begins."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cloudknot.errors import CloudknotInputError

if TYPE_CHECKING:
    from cloudknot.aws.s3 import Storage
    from cloudknot.worker.protocol import RunKeys


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


def upload_inputs(storage: Storage, keys: RunKeys, packer: InputPacker) -> int:
    """Store the inputs of a run and their index; return how many there are."""
    storage.upload(keys.inputs, packer)
    storage.put(keys.index, packer.index())
    return packer.count
