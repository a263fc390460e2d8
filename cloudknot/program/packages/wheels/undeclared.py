"""Add the files that a build leaves out, but that an editable installation finds here.

Python reads an editable package in its source folder. There it finds data files that the project does not declare, and
modules of sub-packages that the project forgot. The job must find them, too.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from cloudknot.options import streams
from cloudknot.program.files.leftovers import is_leftover
from cloudknot.program.files.modes import has_mode
from cloudknot.program.packages.wheels.archive import WheelFile

LARGEST = 64 << 20
"""Bytes of undeclared files that are added to one wheel."""
_COMPILED = (".so", ".dylib", ".pyd", ".dll")
_TAG = re.compile(rb"^Tag:.*$\n?", re.MULTILINE)


def with_undeclared(name: str, files: Mapping[str, WheelFile], roots: Iterable[Path]) -> dict[str, WheelFile]:
    """Return the files of a wheel, with all files that lie in its packages below some folders.

    Parameters
    ----------
    name : str
        The distribution, for the warning.
    files : mapping of str to WheelFile
    roots : iterable of Path
        The folders that Python searches for the packages.

    Warns
    -----
    UserWarning
        The undeclared files are larger than `LARGEST` together. Then none of them is added.
    """
    tops = {path.partition("/")[0] for path in files if "/" in path}
    packages = {top for top in tops if not top.endswith((".dist-info", ".data"))}
    found = {
        path: file
        for root in roots
        for top in sorted(packages)
        for path, file in _files(root, top)
        if path not in files
    }
    size = sum(file.stat().st_size for file in found.values())
    if size > LARGEST:
        streams.warn(
            f"The local package {name} has {size >> 20} MB of files that its build does not include. Jobs do not get "
            "them. Name them as package data in its pyproject.toml, or read them from elsewhere.",
        )
        return dict(files)
    added = {path: WheelFile(file.read_bytes(), has_mode(file)) for path, file in found.items()}
    is_compiled = any(path.endswith(_COMPILED) for path in added)
    return _tagged({**files, **added}) if is_compiled else {**files, **added}


def _files(root: Path, top: str) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(root / top):
        folders[:] = [name for name in folders if not is_leftover(name)]
        for name in names:
            file = Path(folder, name)
            if file.is_file() and not is_leftover(name) and not _is_for_another_python(name):
                yield file.relative_to(root).as_posix(), file


def _is_for_another_python(name: str) -> bool:
    # The last suffix is the plain ".so", which every library has.
    return ".cpython-" in name and not name.endswith(EXTENSION_SUFFIXES[0])


def _tagged(files: dict[str, WheelFile]) -> dict[str, WheelFile]:
    """Return files with compiled ones among them as those of a wheel for this machine only."""
    (path,) = (path for path in files if path.endswith(".dist-info/WHEEL"))
    wheel = files[path].content
    if b"-none-any" not in wheel:
        return files
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    text = _TAG.sub(b"", wheel).rstrip() + f"\nTag: py3-none-{machine}\n".encode()
    return {**files, path: WheelFile(text)}
