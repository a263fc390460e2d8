"""The files in the cloud's directory, through which sessions and the server process find and exclude each other."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from cloudknot.errors import CKTimeoutError, CloudknotConfigurationError, CloudknotInputError
from cloudknot.options.config import data_folder

REGION = "us-east-1"
ACCOUNT = "123456789012"
"""The account of every request."""
VERSION = 1
"""The version of the format of ``cloud.json`` and of the routes under ``/_cloudknot/``."""

LOCK_TIMEOUT = 40 * 60.0
"""Seconds. An installation of requirements may hold a lock for almost as long."""

FULL = {errno.ENOSPC, errno.EDQUOT}
"""The errors of the system for a full disk, and for a used-up share of it."""
_UNUSABLE = FULL | {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EIO, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
}
MARKER = ".cloudknot"
"""The file that marks a directory as that of an embedded cloud. It holds the number of its format."""
FORMAT = 1
"""The format of the databases and objects in the directory. Earlier versions kept none, and an empty marker."""
DELETED = "deleted"
"""In place of the format: a deletion of the cloud has begun. The next start deletes the rest."""
OBJECTS = "objects"
"""The folder of the objects in S3."""
RECORDS, JOBS, LOGS = "cloud.sqlite", "jobs.sqlite", "logs.sqlite"
DATABASES = (RECORDS, JOBS, LOGS)
"""The databases of the cloud: its users, stacks and keys, its jobs, and its logs. SQLite has files beside each."""
SCRATCH = ".cloudknot-scratch"
OPTIONS = "options.json"
"""The options of the last start."""
_FOLDERS = (SCRATCH, OBJECTS, "images", "environments")
_CLOUD_FILES = frozenset(
    {MARKER, OPTIONS, "cloud.json", "server.log", "server.lock", "start.lock", *DATABASES, *_FOLDERS}
)
_IN_USE = frozenset({MARKER, OPTIONS, "server.log", "server.lock", "start.lock"})
"""The files that a start uses."""


@dataclass(frozen=True)
class CloudState:
    """The content of ``cloud.json``: the cloud's address, its owner's key and the options that it runs with."""

    endpoint: str
    pid: int
    access_key: str
    secret_key: str
    region: str = REGION
    version: int = VERSION
    runner: str = "process"
    registry: str | None = None
    iam: bool = False

    def __repr__(self) -> str:
        # Without the secret key: the text may end up in a log or a traceback.
        return f"CloudState(endpoint={self.endpoint!r}, pid={self.pid})"

    def is_same(self, other: CloudState) -> bool:
        """Return whether both are the same cloud, perhaps before and after a restart."""
        # A directory keeps its owner's key for as long as it exists.
        return self.access_key == other.access_key


def state_file(directory: Path) -> Path:
    """Return the path of ``cloud.json``."""
    return directory / "cloud.json"


def log_file(directory: Path) -> Path:
    """Return the path of the server's log."""
    return directory / "server.log"


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
        if names and not names & _CLOUD_FILES:
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


def delete_files(directory: Path) -> None:
    """Delete all files of a cloud that does not run, and the directory if nothing else is in it.

    Files of the user's own stay. The caller holds the lock of the server.
    """
    # A deletion that is interrupted leaves a part of the files. A cloud with a part of its records would be wrong.
    (directory / MARKER).write_text(DELETED, encoding="utf-8")
    _delete(directory, _CLOUD_FILES - {MARKER})
    # The marker goes last: until then, the directory belongs to a cloud.
    (directory / MARKER).unlink()
    # Not a directory with other files, nor the target of a link.
    with contextlib.suppress(OSError):
        directory.rmdir()


def is_half_deleted(directory: Path) -> bool:
    """Return whether a deletion of the directory's cloud was interrupted."""
    return (directory / MARKER).read_text(encoding="utf-8").strip() == DELETED


def finish_deletion(directory: Path) -> None:
    """Delete the rest of a cloud of which a deletion was interrupted. The caller holds the lock of the server."""
    if is_half_deleted(directory):
        _delete(directory, _CLOUD_FILES - _IN_USE)
        (directory / MARKER).write_text(f"{FORMAT}\n", encoding="utf-8")


def _delete(directory: Path, names: Iterable[str]) -> None:
    import shutil

    databases = [path for name in DATABASES for path in directory.glob(f"{name}*")]
    files = [directory / name for name in sorted(names)]
    for path in (*databases, *files, *directory.glob(".cloud-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


@contextlib.contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Turn the system's refusals to write a cloud's files into an error with a fix.

    Raises
    ------
    CloudknotConfigurationError
        The directory cannot be written.
    """
    try:
        yield
    except OSError as error:
        # Other errors of the system, and cloudknot's own timeouts, have other causes than the directory.
        if error.errno not in _UNUSABLE:
            raise
        problem, fix = str(error), "Choose a directory that you can write to"
        if error.errno in FULL:
            # Not the file: the one of a package that is being installed has a long path, and says nothing.
            problem, fix = os.strerror(error.errno), "Free space on its disk, or choose a directory on another disk"
        raise CloudknotConfigurationError(
            f"The embedded cloud cannot write to its directory {directory}: {problem}. {fix}: "
            "set CLOUDKNOT_LOCAL_DIR, or pass cloudknot.LocalCloud(directory)."
        ) from error


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


def write_state(directory: Path, state: CloudState) -> None:
    """Write ``cloud.json``, readable by its owner only."""
    import tempfile

    # A temporary file, moved into place: a session that reads at this moment sees the whole file or none.
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".cloud-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(state), stream)
    os.replace(name, state_file(directory))


class Identity:
    """A path and the file that was there. Another file may be there later, or none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was = self._is()

    def remains(self) -> bool:
        """Return whether the same file is still there."""
        return self._was is not None and self._is() == self._was

    def _is(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def read_state(directory: Path) -> CloudState | None:
    """Return the content of ``cloud.json``, or None if the file is missing, incomplete or of another version.

    A file of another user counts as missing.
    """
    try:
        with state_file(directory).open(encoding="utf-8") as stream:
            # Another user could name an address that collects this user's functions.
            if os.fstat(stream.fileno()).st_uid != os.geteuid():
                return None
            state = CloudState(**json.load(stream))
    except (FileNotFoundError, TypeError, ValueError):
        return None
    return state if state.version == VERSION else None


def server_lock(directory: Path) -> Path:
    """Return the path of the file that the server process keeps locked for as long as it lives."""
    return directory / "server.lock"


@contextlib.contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[int]:
    """Hold an exclusive lock on a file for the duration of the block, and yield the file's descriptor.

    Raises
    ------
    CKTimeoutError
        Another process, or another thread, has held the lock for ``timeout`` seconds.
    """
    # filelock waits for a limited time, works between threads and processes, and the kernel frees a lock when its
    # holder dies. The caller may pass the descriptor on to a child: when a session dies, its pip still holds the lock.
    from filelock import FileLock, Timeout

    descriptors: list[int] = []
    lock = FileLock(path, timeout=timeout, poll_interval=0.02, on_acquired=descriptors.append)
    try:
        lock.acquire()
    except Timeout as error:
        raise CKTimeoutError(
            f"Another process has held the lock {path} for {timeout:.0f} s. A process holds it while it starts an "
            "embedded cloud or installs the requirements of an image. Call again after it has finished. If it hangs, "
            f"`fuser {quote(str(path))}` shows its process id: end it with `kill`, then try again."
        ) from error
    try:
        yield descriptors[0]
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock. Several processes may call this at the same time."""
    # Not at the top: Windows has no fcntl, but cloudknot must be importable there for use with AWS.
    import fcntl

    try:
        with path.open(encoding="utf-8") as stream:
            # A shared lock, because filelock can only take the exclusive one: two sessions that check at the same
            # time would each mistake the other for a running cloud.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
