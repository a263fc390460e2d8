"""The work that all contestants do. Every contestant's environment imports these modules; none needs cloudknot."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Workload:
    """A function, and a digest of its results that is the same for all contestants."""

    function: Callable[[Any], Any]
    elements: Callable[[int], Sequence[Any]]
    """Return this many elements."""
    digest: Callable[[Sequence[Any]], str]
    small: Any
    """An element that takes less than 0.1 s, for the first map in a session."""


def load(name: str) -> Workload:
    """Import the workload of this name: its module may import numpy or dipy."""
    module = importlib.import_module(f"{__name__}.{name}")
    return Workload(module.function, module.elements, module.digest, module.small())
