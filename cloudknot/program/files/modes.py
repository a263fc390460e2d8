"""Find out which files are programs, also on systems and disks that keep no such mode."""

from __future__ import annotations

import codecs
import stat
import sys
from pathlib import Path

_SIGNS = (b"#!", b"\x7fELF")


def is_program(content: bytes) -> bool:
    """Return whether Linux can execute a file, if its mode permits that: a script with ``#!``, or a binary."""
    return content[:8].removeprefix(codecs.BOM_UTF8).startswith(_SIGNS)


def has_mode(path: Path) -> bool:
    """Return whether the mode of a file says that it is executable. Windows has no such mode."""
    return sys.platform != "win32" and bool(path.stat().st_mode & stat.S_IXUSR)


def is_executable(path: Path) -> bool:
    """Return whether a file is executable by its mode, or is a program by its content.

    The content counts as well, so that the same file is executable wherever it comes from.
    """
    return has_mode(path) or is_program_file(path)


def is_program_file(path: Path) -> bool:
    """Return `is_program` of the content of a file."""
    with path.open("rb") as file:
        return is_program(file.read(8))
