"""A build context as a directory that a person can read and edit.

What a person edited stays: the Dockerfile, the requirements, and any file that cloudknot did not write. A record of
what was written tells one from the other. The program's own files are always the current ones.
"""

from __future__ import annotations

import hashlib
import json
import stat
import warnings
from collections.abc import Container, Mapping
from pathlib import Path

from cloudknot.errors import CloudknotInputError
from cloudknot.image.context import ABOUT, DOCKERFILE, GENERATED, REQUIREMENTS

RECORD = ".cloudknot.json"
NEEDED = (DOCKERFILE, REQUIREMENTS, ABOUT)
"""Files without which a directory is not the context of a program."""
_LEFT_OUT = {"__pycache__", ".git", ".ipynb_checkpoints", RECORD}


def write(directory: Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Bring a directory up to date with a rendered context; files that a person edited stay as they are.

    Parameters
    ----------
    directory : Path
        Made if there is none.
    files : mapping of str to bytes
    overwrite : bool
        Write over what a person edited, too.

    Raises
    ------
    CloudknotInputError
        Where a program's file belongs there is one that cloudknot did not write, or the directory cannot be written.
    """
    record = {} if overwrite else _record(directory)
    found = {path: _sha256(directory / path) for path in {*files, *record}}
    if not overwrite:
        _refuse_foreign(directory, files, found, record)
    try:
        for path in record.keys() - files.keys():
            if path.startswith(GENERATED) and found[path] == record[path]:
                (directory / path).unlink(missing_ok=True)
        kept = {path for path in files if not overwrite and _is_edited(path, found, record)}
        for path, data in files.items():
            if path not in kept:
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                (directory / path).write_bytes(data)
        now = {path: record.get(path, "") if path in kept else _digest(data) for path, data in files.items()}
        (directory / RECORD).write_text(json.dumps(now, indent=1, sort_keys=True))
    except OSError as error:
        raise CloudknotInputError(f"The build context cannot be written to {directory}: {error}") from error
    _warn_of_outdated(directory, {path for path in kept if record.get(path) not in (None, "", _digest(files[path]))})


def read(directory: Path) -> dict[str, bytes]:
    """Every file of a context, by its path.

    Raises
    ------
    CloudknotInputError
        It is not the context of a program.
    """
    files = {name: path.read_bytes() for name, path in _found(directory)}
    _refuse_missing(directory, files)
    return files


def check(directory: Path) -> None:
    """Refuse a directory that is not the context of a program: see `read`."""
    _refuse_missing(directory, {path for path in NEEDED if (directory / path).is_file()})


def _refuse_missing(directory: Path, found: Container[str]) -> None:
    if missing := [path for path in NEEDED if path not in found]:
        raise CloudknotInputError(
            f"{directory} is not a program's build context: it has no {', '.join(missing)}. "
            "Give a func or a script path with it to have one written there."
        )


def executables(directory: Path) -> list[str]:
    """The paths of those files that a person added and can execute."""
    return [name for name, path in _found(directory) if _is_added(name) and path.stat().st_mode & stat.S_IXUSR]


def _is_added(name: str) -> bool:
    return name not in (DOCKERFILE, REQUIREMENTS) and not name.startswith(GENERATED)


def _found(directory: Path) -> list[tuple[str, Path]]:
    """Every file of a context and its name there, in order."""
    inside = ((path.relative_to(directory), path) for path in sorted(directory.rglob("*")) if path.is_file())
    return [(name.as_posix(), path) for name, path in inside if not _LEFT_OUT & set(name.parts)]


def edited(directory: Path) -> bool:
    """Whether a person has edited the Dockerfile since it was written."""
    return _record(directory).get(DOCKERFILE) != _sha256(directory / DOCKERFILE)


def _record(directory: Path) -> dict[str, str]:
    try:
        record: dict[str, str] = json.loads((directory / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record


def _refuse_foreign(
    directory: Path, files: Mapping[str, bytes], found: Mapping[str, str | None], record: Mapping[str, str]
) -> None:
    foreign = [path for path in files if path.startswith(GENERATED) and found[path] and path not in record]
    if foreign:
        raise CloudknotInputError(
            f"{directory} holds {foreign[0]}, which is not cloudknot's and would be written over. Name another one."
        )


def _is_edited(path: str, found: Mapping[str, str | None], record: Mapping[str, str]) -> bool:
    return not path.startswith(GENERATED) and found[path] is not None and found[path] != record.get(path)


def _warn_of_outdated(directory: Path, outdated: set[str]) -> None:
    if outdated:
        names = " and ".join(sorted(outdated))
        warnings.warn(
            f"{names} in {directory} stays as you edited it, although cloudknot would write it differently now. "
            "Compare it with DockerImage(..., dir_name=...) of another directory, or have it written anew with "
            "overwrite=True.",
            UserWarning,
            stacklevel=5,
        )


def _sha256(file: Path) -> str | None:
    return _digest(file.read_bytes()) if file.is_file() else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
