"""The libraries that are compared, each behind the same small interface. A module imports its library only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

CHUNKS, SINGLE, FRESH = "chunks", "single", "fresh"
"""Ways to run a map: in a few chunks, one task for each element, and one fresh process for each element."""
CHUNKS_FOR_EACH_WORKER = 2

Function = Callable[[Any], Any]


class Contestant(Protocol):
    """A library with its workers started. The constructor starts them, and `stop` ends them."""

    calls: ClassVar[Mapping[str, str]]
    """The expression for each way that the library offers."""

    def __init__(self, workers: int, way: str, functions: Sequence[Function]) -> None:
        """Start a session for maps of these functions. ``way`` is `FRESH` if each element gets a process."""

    def map(self, function: Function, elements: Sequence[Any], way: str) -> list[Any]:
        """Return the results in the order of the elements."""

    def client_processes(self) -> Sequence[int]:
        """Return the ids of the processes that are the user's session."""

    def stop(self) -> None: ...


def contestant_class(name: str) -> type[Contestant]:
    """Import the contestant, and with it the library."""
    module = importlib.import_module(f"{__name__}.{name}_contestant")
    contestant: type[Contestant] = module.Contestant
    return contestant


def chunk_size(count: int, workers: int) -> int:
    """Return the number of elements in a chunk. It is the same for all libraries."""
    return max(1, -(-count // (workers * CHUNKS_FOR_EACH_WORKER)))


def batches(elements: Sequence[Any], workers: int) -> list[Sequence[Any]]:
    """Return the elements in chunks, for a library that makes none itself."""
    size = chunk_size(len(elements), workers)
    return [elements[start : start + size] for start in range(0, len(elements), size)]


def call_with_each(function: Function, batch: Sequence[Any]) -> list[Any]:
    """Return the results of a chunk: a task of a library that makes no chunks itself."""
    return [function(x) for x in batch]
