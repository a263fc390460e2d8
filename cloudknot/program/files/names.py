"""Compare the names of files as Linux does, on disks that ignore case or decompose letters."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def composed(name: str) -> str:
    """Return a name with each accented letter as one character. macOS may list it as a letter and an accent."""
    return unicodedata.normalize("NFC", name)


def has(folder: Path, *parts: str) -> bool:
    """Return whether a folder contains a path under exactly this name.

    The disks of Windows and macOS open ``Click.py`` as ``click.py``, but Python imports it only as ``Click``.
    """
    return all(_lists(folder.joinpath(*parts[:end]), part) for end, part in enumerate(parts))


def has_file(folder: Path, *parts: str) -> bool:
    """Return whether a folder contains a file under exactly this path."""
    # Most candidates do not exist, and one call shows that.
    return folder.joinpath(*parts).is_file() and has(folder, *parts)


def _lists(folder: Path, name: str) -> bool:
    try:
        return composed(name) in map(composed, os.listdir(folder))
    except OSError:
        return False


def portable_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return each path as it is on all systems, by the path here. Two paths that differ here stay different."""
    found = {path: composed(path) for path in paths}
    taken: dict[str, int] = {}
    for name in found.values():
        taken[name] = taken.get(name, 0) + 1
    return {path: name if taken[name] == 1 else path for path, name in found.items()}
