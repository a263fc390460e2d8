"""The claim of a directory for an embedded cloud: it belongs to one user, and nobody else can write in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cloudknot.errors import CloudknotConfigurationError, CloudknotInputError
from cloudknot.local.directory.files import CLOUD_FILES, DELETED, FORMAT, MARKER
from cloudknot.options.config import data_folder


def claim(directory: Path) -> None:
    """Create the cloud's directory, accessible to its owner only, or take over an existing one.

    An existing directory keeps its mode, but nobody else can write to it afterwards. In cloudknot's folder for data,
    it is closed to others.

    Raises
    ------
    CloudknotInputError
        The path is a file, or a directory with files of which none belongs to an embedded cloud. Or the directory,
        or a file in it, belongs to another user.
    CloudknotConfigurationError
        A newer cloudknot has written the directory.
    """
    check_owner(directory)
    _make_parents(directory)
    mode = 0o700
    try:
        directory.mkdir(mode=mode)
    except FileExistsError as error:
        names = set(os.listdir(directory)) if directory.is_dir() else {directory.name}
        if directory.is_dir() and not _in_data_folder(directory):
            mode = stat.S_IMODE(directory.stat().st_mode) & ~0o022
        # A mistyped path may name a directory of the user's own.
        if names and not names & CLOUD_FILES:
            raise CloudknotInputError(
                f"{directory} is not empty and holds no files of an embedded cloud. "
                "Choose a directory that is empty or does not exist."
            ) from error
    # Once more: another user may have made the directory in the meantime. In one that was open to others, they may
    # have planted files, for example a module that jobs would import.
    check_owner(directory)
    # Whatever the umask was when it was created.
    _set_mode(directory, mode)
    for path in directory.iterdir():
        _check_own(path, directory)
    _check_format(directory)


def _check_format(directory: Path) -> None:
    """Write the format of a new directory. Raise `CloudknotConfigurationError` if a newer cloudknot has written it."""
    marker = directory / MARKER
    text = marker.read_text(encoding="utf-8").strip() if marker.exists() else ""
    if not text:
        marker.write_text(f"{FORMAT}\n", encoding="utf-8")
    elif text == DELETED:
        # The server does the rest, under its lock.
        return
    elif not text.isdecimal() or int(text) > FORMAT:
        raise CloudknotConfigurationError(
            f"A newer cloudknot wrote the embedded cloud in {directory}: its format is {text}, and this version reads "
            f"{FORMAT}. Install the newer version, or choose another directory with CLOUDKNOT_LOCAL_DIR."
        )


def own_folder(folder: Path) -> Path:
    """Create a folder for programs that jobs run, or take over an existing one. Nobody else can write in it.

    Raises
    ------
    CloudknotInputError
        The folder belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(folder)
    _set_mode(folder, stat.S_IMODE(folder.stat().st_mode) & ~0o022 | 0o700)
    return folder


def check_owner(directory: Path) -> None:
    """Raise `CloudknotInputError` for an existing directory of another user, or a link that another user made."""
    # Its cloud would receive this user's functions, and its files are programs that this user's jobs would run.
    for path in (directory, directory.resolve()):
        if os.path.lexists(path):
            _check_own(path, directory)


def _check_own(path: Path, directory: Path) -> None:
    if path.lstat().st_uid != os.geteuid():
        raise CloudknotInputError(
            f"{path} belongs to another user, so {directory} is not used for an embedded cloud. "
            "Choose a directory of your own."
        )


def _make_parents(directory: Path) -> None:
    """Create the missing folders above the directory, and close cloudknot's folder for data to other users."""
    missing = [parent for parent in directory.parents if not parent.exists()]
    for parent in reversed(missing):
        # Two sessions may create them at the same time.
        parent.mkdir(mode=0o700, exist_ok=True)
        parent.chmod(0o700)
    if _in_data_folder(directory):
        check_owner(data_folder())
        _set_mode(data_folder(), 0o700)


def _in_data_folder(directory: Path) -> bool:
    """Return whether the directory is cloudknot's folder for data, or is in it, by whatever links."""
    place = directory.resolve()
    try:
        return data_folder().resolve() in (place, *place.parents)
    except CloudknotConfigurationError:
        # A user without a home directory has no such folder.
        return False


def _set_mode(path: Path, mode: int) -> None:
    # Only if it differs: a read-only file system refuses even a change to the same mode.
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
