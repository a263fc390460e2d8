"""The files that come with moto. They hold data that AWS publishes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def moto_file(*parts: str) -> Path:
    """Return the path of a file by its folders and name in moto's package."""
    # The package is located, not imported: its code is not needed, and takes seconds to load.
    spec = find_spec("moto")
    assert spec is not None
    (folder,) = spec.submodule_search_locations or [""]
    return Path(folder, *parts)
