"""Digest the source code of a project, so that an unchanged project is not built again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cloudknot.program.files.leftovers import is_leftover

SMALL = 64 * 1024
"""Bytes of the largest file that is read. A larger one counts by its size and its times of change."""
# Tools write these at the top of a project. A package of that name is none of them.
_OUTPUT = {"build", "dist"}
_VERSION_TOOLS = (b"scm", b"vcs", b"versioneer", b"versioningit", b"dunamai", b"pbr", b"git")


def digest(source: Path) -> str:
    """Return the SHA-256, in hexadecimal, of the files that a build of a project may read."""
    hashed = hashlib.sha256()
    for path in sorted(_files(source)):
        relative = path.relative_to(source).as_posix().encode("utf-8", "surrogateescape")
        hashed.update(b"%d %s " % (len(relative), relative) + _state(path))
    return hashed.hexdigest()


def _state(path: Path) -> bytes:
    try:
        status = path.stat()
        executable = b"x" if status.st_mode & 0o100 else b"-"
        if status.st_size > SMALL:
            times = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            return executable + hashlib.sha256(repr(times).encode()).digest()
        return executable + hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        # A broken link, or a file that vanished meanwhile.
        return b"?"


def _files(source: Path) -> Iterator[Path]:
    """Yield the files of a project that can change the wheel. Links to folders are followed, each folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(source, followlinks=True):
        if os.path.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        here = Path(folder)
        folders[:] = [name for name in folders if not _is_left_out(here / name, here == source)]
        yield from (here / name for name in names if not is_leftover(name) and (here / name).is_file())
    if any(tool in _build_files(source) for tool in _VERSION_TOOLS):
        # Such a build takes the version, and which files belong to the package, from the repository.
        yield from filter(Path.is_file, (source / ".git" / name for name in ("HEAD", "index", "packed-refs")))


def _is_left_out(path: Path, is_top: bool) -> bool:
    name = path.name
    if name == "node_modules" or is_leftover(name) or name.endswith((".egg-info", ".dist-info")):
        return True
    # A hidden folder at the top holds a repository, a cache or an environment. Deeper ones may be data of the package.
    if (is_top and name.startswith(".")) or (path / "pyvenv.cfg").is_file() or (path / "conda-meta").is_dir():
        return True
    return is_top and name in _OUTPUT and not (path / "__init__.py").is_file()


def _build_files(source: Path) -> bytes:
    names = ("pyproject.toml", "setup.cfg", "setup.py")
    return b"".join((source / name).read_bytes() for name in names if (source / name).is_file())
