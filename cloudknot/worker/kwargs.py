"""Keyword arguments that all elements of a run share: read once by each child, unpickled as they come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .s3 import client
from .wire.keys import RunKeys
from .wire.manifest import Manifest


def with_keywords(function: Callable[..., Any], keys: RunKeys, manifest: Manifest) -> Callable[..., Any]:
    """The function with the run's keyword arguments. Raises whatever unpickling them raises."""
    if not manifest.kwargs:
        return function
    return partial(function, **client.load(keys.bucket, manifest.kwargs, 0, manifest.kwargs_size))
