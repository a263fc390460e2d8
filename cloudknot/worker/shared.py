"""Keyword arguments that all elements of a run share: read once by each child, block by block.

A block at a time, so that what may be hundreds of megabytes is not in memory twice.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from . import s3
from .protocol import Manifest, RunKeys

BLOCK = 64 * 1024 * 1024


class ObjectReader(io.RawIOBase):
    """An object in S3 as a file, which is read once from its beginning to its end.

    Parameters
    ----------
    bucket, key : str
    size : int
        Bytes of the object.
    """

    def __init__(self, bucket: str, key: str, size: int) -> None:
        self._bucket, self._key, self._size = bucket, key, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or as much of it as one request reads."""
        end = min(self._position + min(len(buffer), BLOCK), self._size)
        data = s3.read(self._bucket, self._key, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def with_keywords(function: Callable[..., Any], keys: RunKeys, manifest: Manifest) -> Callable[..., Any]:
    """The function with the run's keyword arguments. Raises whatever unpickling them raises."""
    if not manifest.kwargs:
        return function
    raw = ObjectReader(keys.bucket, manifest.kwargs, manifest.kwargs_size)
    with io.BufferedReader(raw, max(1, min(BLOCK, manifest.kwargs_size))) as file:
        return partial(function, **pickle.load(file))
