"""A build context as a directory that a person can read and edit.

A person's edits survive: changes to the Dockerfile and the requirements, and added files. The program's own files and
those of the lock are always written anew. Leftovers of systems and editors do not count, nor do the line endings of
source code. So the directory gives the same image on every machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.image.context import (
    DOCKERFILE,
    GENERATED,
    PROGRAM_INFO,
    REQUIREMENTS,
    WHEELS,
    is_locked,
    is_outdated_context,
)
from cloudknot.options import streams
from cloudknot.program.files import modes, names, text
from cloudknot.program.files.leftovers import is_leftover

# The digests of the files as cloudknot wrote them. A file with another digest was edited by a person.
RECORD = ".cloudknot.json"
NEEDED = (DOCKERFILE, REQUIREMENTS, PROGRAM_INFO)
"""Files without which a directory is not the build context of a program."""


def write(directory: Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Bring a directory up to date with a rendered build context, and keep a person's edits.

    Parameters
    ----------
    directory : Path
        Created if it does not exist.
    files : mapping of str to bytes
    overwrite : bool, default False
        Replace edited files, too.

    Warns
    -----
    UserWarning
        An edited file differs from the one that cloudknot would write now.

    Raises
    ------
    CloudknotInputError
        A file that cloudknot did not write is in the place of a program's file, or the directory cannot be written.
    """
    stored_digests = {} if overwrite else _read_digests(directory)
    digests = {path: _sha256(directory / path) for path in {*files, *stored_digests}}
    if not overwrite:
        _refuse_foreign(directory, files, digests, stored_digests)
    with _writing(directory):
        # An earlier program may have had more local modules. Jobs must not import them any more.
        for path in stored_digests.keys() - files.keys():
            if path.startswith(GENERATED) and digests[path] == stored_digests[path]:
                (directory / path).unlink(missing_ok=True)
        edited_paths = {path for path in files if not overwrite and _is_edited(path, digests, stored_digests)}
        for path, data in files.items():
            if path not in edited_paths:
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                (directory / path).write_bytes(data)
        # An edited file keeps the digest of the version that cloudknot wrote last, so that it still counts as edited.
        new_digests = {
            path: stored_digests.get(path, "") if path in edited_paths else _digest(data)
            for path, data in files.items()
        }
        (directory / RECORD).write_text(json.dumps(new_digests, indent=1, sort_keys=True), encoding="utf-8")
    changed = (path for path in edited_paths if stored_digests.get(path) not in (None, "", _digest(files[path])))
    _warn_of_outdated(directory, set(changed))


def write_lock(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write those of the ``files`` that belong to the lock, and remove wheels of an earlier lock.

    Raises
    ------
    CloudknotInputError
        The directory cannot be written.
    """
    locked = {path: data for path, data in files.items() if is_locked(path)}
    with _writing(directory):
        for old in (directory / WHEELS).glob("*.whl"):
            if f"{WHEELS}{old.name}" not in locked:
                old.unlink()
        for path, data in locked.items():
            # Another session may be reading the file, and most locks are the same as before.
            if _sha256(directory / path) != _digest(data):
                (directory / path).parent.mkdir(exist_ok=True)
                (directory / path).write_bytes(data)


def remove(directory: Path) -> list[str]:
    """Delete the files that cloudknot wrote, with their folders. Return the paths of a person's files, which stay.

    Raises
    ------
    CloudknotInputError
        A file cannot be deleted.
    """
    stored_digests = _read_digests(directory)
    files = _list_files(directory)
    kept = [name for name, path in files if not is_locked(name) and _sha256(path) != stored_digests.get(name)]
    deleted = [path for name, path in files if name not in kept]
    # Only folders of deleted files: an empty one in .git, for example, is a person's.
    folders = {folder for path in (*deleted, directory / RECORD) for folder in path.parents}
    with _writing(directory):
        for path in deleted:
            path.unlink()
        if not kept:
            (directory / RECORD).unlink(missing_ok=True)
        # The deepest first, so that a folder is empty after its own folders.
        for folder in sorted(folders, reverse=True):
            if folder.is_relative_to(directory) and not any(folder.iterdir()):
                folder.rmdir()
    return kept


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CloudknotInputError(
            f"The build context cannot be written to {directory}: {error}. "
            "Pass a directory that you can write to: DockerImage(..., dir_name=...) or Knot(..., image_work_dir=...)."
        ) from error


def read(directory: Path) -> dict[str, bytes]:
    """Return every file of a build context by its path.

    Raises
    ------
    CloudknotInputError
        The directory is not the build context of a program, or an earlier version of cloudknot wrote it.
    """
    files = {name: text.portable(name, path.read_bytes()) for name, path in _list_files(directory)}
    _refuse_incomplete(directory, files)
    if is_outdated_context(files):
        refuse(
            problem=f"An earlier version of cloudknot wrote the directory {directory}.",
            cause="Its worker cannot read the inputs that this version stores.",
            fix="Pass the function or the script as well: cloudknot then writes its own files there again, and keeps "
            "your edits.",
        )
    return files


def check(directory: Path) -> None:
    """Raise `CloudknotInputError` for a directory that is not the build context of a program."""
    _refuse_incomplete(directory, {path for path in NEEDED if (directory / path).is_file()})


def _refuse_incomplete(directory: Path, paths: Container[str]) -> None:
    if missing := [path for path in NEEDED if path not in paths]:
        refuse(
            problem=f"The directory {directory} is not a build context of cloudknot.",
            cause=f"It has no {', no '.join(missing)}.",
            fix="Pass a function or a script as well: cloudknot then writes the build context there.",
        )


def executables(directory: Path) -> list[str]:
    """Return the paths of the executable files that a person added."""
    files = _list_files(directory)
    # Shared disks, such as those of Windows inside WSL, show every file as executable.
    is_one = modes.is_program_file if all(modes.has_mode(path) for _, path in files) else modes.is_executable
    return [name for name, path in files if _is_added(name) and is_one(path)]


def _is_added(name: str) -> bool:
    return name not in (DOCKERFILE, REQUIREMENTS) and not is_locked(name) and not name.startswith(GENERATED)


def _list_files(directory: Path) -> list[tuple[str, Path]]:
    """Return the files of a build context with their paths in it, sorted."""
    inside = ((path.relative_to(directory), path) for path in directory.rglob("*") if path.is_file())
    found = {name.as_posix(): path for name, path in inside if not any(map(_is_left_out, name.parts))}
    portable = names.portable_paths(found)
    return sorted((portable[name], path) for name, path in found.items())


def _is_left_out(name: str) -> bool:
    return name == RECORD or is_leftover(name)


def edited(directory: Path) -> bool:
    """Return whether a person has edited the Dockerfile since cloudknot wrote it."""
    return _read_digests(directory).get(DOCKERFILE) != _sha256(directory / DOCKERFILE)


def _read_digests(directory: Path) -> dict[str, str]:
    try:
        stored_digests: dict[str, str] = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Without stored digests, every file counts as a person's: none is overwritten.
        return {}
    return stored_digests


def _refuse_foreign(
    directory: Path, files: Mapping[str, bytes], digests: Mapping[str, str | None], stored_digests: Mapping[str, str]
) -> None:
    foreign = [path for path in files if path.startswith(GENERATED) and digests[path] and path not in stored_digests]
    if foreign:
        refuse(
            problem=f"The directory {directory} holds {foreign[0]}, which cloudknot did not write.",
            cause="The build context needs that path, and would overwrite the file.",
            fix="Move the file, or pass another directory: DockerImage(..., dir_name=...) or "
            "Knot(..., image_work_dir=...).",
        )


def _is_edited(path: str, digests: Mapping[str, str | None], stored_digests: Mapping[str, str]) -> bool:
    return not path.startswith(GENERATED) and digests[path] is not None and digests[path] != stored_digests.get(path)


def _warn_of_outdated(directory: Path, outdated: set[str]) -> None:
    if outdated:
        names = " and ".join(sorted(outdated))
        streams.warn(
            f"Your edited {names} in {directory} is out of date: cloudknot would now write other content. Your "
            "version is kept. To compare, write a second directory: DockerImage(..., dir_name=...). To discard your "
            "edits, pass overwrite=True.",
        )


def _sha256(file: Path) -> str | None:
    # git may have changed the line endings of a file that nobody edited.
    return _digest(text.portable(file.name, file.read_bytes())) if file.is_file() else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
