"""The files of a virtual environment: as their packages list them, and as they are on disk."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

MARKER = ".complete"
"""The mark of a complete environment, written last. An environment without it is deleted and built again."""
FILES = ".files"
"""The size and time of each file of a complete environment."""
HASHING_THREADS = 4


class ListedFile(NamedTuple):
    """A line of a package's ``RECORD``.

    Attributes
    ----------
    path : str
        Relative to ``site-packages``, for example ``"../../../bin/f2py"``.
    sha256 : str
        As in the file: base64 without padding. Empty if the package lists none.
    """

    path: str
    sha256: str


def site_packages(environment: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next(environment.glob("lib/python*/site-packages"))


def listed_files(record: str) -> list[ListedFile]:
    """Return the files that the text of a package's ``RECORD`` lists, without bytecode."""
    # Python writes bytecode itself, later and in any order.
    rows = (row for row in csv.reader(record.splitlines()) if row and not row[0].endswith(".pyc"))
    return [ListedFile(row[0], _sha256(row[1] if len(row) > 1 else "")) for row in rows]


def _sha256(field: str) -> str:
    algorithm, _, value = field.partition("=")
    return value if algorithm == "sha256" else ""


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of some bytes as ``RECORD`` has it."""
    return _as_listed(hashlib.sha256(content).digest())


def is_as_listed(place: Path, file: ListedFile) -> bool:
    """Return whether a file exists and has the hash that its package lists, if it lists one."""
    try:
        with open(place / file.path, "rb") as stream:
            return not file.sha256 or _as_listed(hashlib.file_digest(stream, "sha256").digest()) == file.sha256
    except OSError:
        return False


def damaged_packages(environment: Path, names: Collection[str]) -> list[str]:
    """Return those of some packages that are missing, or have a missing or changed file. Reads every file."""
    place = site_packages(environment)
    records = place.glob("*.dist-info/RECORD")
    files = {_package_of(record): listed_files(record.read_text(encoding="utf-8")) for record in records}
    # Of a path that two packages list, the later one has replaced the file of the first.
    owners = Counter(file.path for listed in files.values() for file in listed)
    # Hashing leaves the interpreter lock, so threads use several cores.
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        results = {
            name: pool.map(partial(is_as_listed, place), [file for file in files[name] if owners[file.path] == 1])
            for name in names
            if name in files
        }
        return [name for name in names if not all(results.get(name, (False,)))]


def _package_of(record: Path) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(record.parent.name.removesuffix(".dist-info").rpartition("-")[0])


def _as_listed(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def mark_complete(environment: Path) -> None:
    """Record the files of a complete environment, for `is_intact`."""
    python = os.path.realpath(environment / "bin" / "python")
    files = {os.path.relpath(path, environment): _state(path) for path in _files(environment)}
    (environment / FILES).write_text(json.dumps(files), encoding="utf-8")
    size = sum(size for size, _ in files.values())
    (environment / MARKER).write_text(json.dumps({"python": python, "size": size}), encoding="utf-8")


def is_intact(environment: Path) -> bool:
    """Return whether an environment is complete, its Python exists, and no file was removed or written since."""
    try:
        # With a Python of another minor version, the environment's packages would not be found.
        mark = json.loads((environment / MARKER).read_bytes())
        files = json.loads((environment / FILES).read_bytes())
        python = os.path.realpath(environment / "bin" / "python")
        # A file may be a link to the same file in uv's cache, so a program can change it without this environment.
        # Size and time show that. Hashes would show more, but take 20 times as long.
        folder = str(environment)
        return (
            python == mark["python"]
            and os.path.exists(python)
            and all(_state(f"{folder}/{path}") == state for path, state in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def recorded_size(environment: Path) -> int:
    """Return the bytes of an environment's files when it was built; 0 for an incomplete one."""
    try:
        return int(json.loads((environment / MARKER).read_bytes())["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _state(path: str | os.PathLike[str]) -> list[int]:
    status = os.stat(path, follow_symlinks=False)
    return [status.st_size, status.st_mtime_ns]


def _files(folder: Path) -> Iterable[str]:
    for parent, folders, names in os.walk(folder):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        yield from (os.path.join(parent, name) for name in names)
