"""Pack the installed files of a distribution into a wheel again."""

from __future__ import annotations

import os
import re
import sysconfig
from importlib import metadata
from pathlib import Path, PurePosixPath

from cloudknot.errors import ImageError
from cloudknot.program.files.modes import has_mode
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.wheels.archive import WheelFile, write_wheel

# Files that an installer writes beside those of the wheel.
_INSTALLER_FILES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}
_PYTHON_SHEBANG = re.compile(rb"\A#!.*python[^\n]*(?=\n)")
# The launcher of pip, uv and others begins with a shell command if the path of Python is long or contains a space.
_SHELL_SHEBANG = re.compile(rb"\A#!/bin/sh\n'''exec' .*python[^\n]*\n' '''(?=\n)")


def pack(name: str, distribution: metadata.Distribution) -> LocalWheel:
    """Return the wheel that an installed distribution came from, made of its files as they are now.

    Parameters
    ----------
    name : str
        The canonical name.
    distribution : Distribution
        An installation that is not editable.

    Raises
    ------
    ImageError
        The list of installed files is missing, or a file cannot be read.
    """
    folder = Path(str(distribution.locate_file("")))
    info = _info_folder(name, distribution)
    started = {script.name for script in distribution.entry_points if script.group in _SCRIPT_GROUPS}
    files: dict[str, WheelFile] = {}
    for file in distribution.files or ():
        installed = Path(os.path.normpath(folder / file))
        path = _path_in_wheel(installed, folder, info)
        if not path or path.endswith(".pyc") or _is_launcher(path, started):
            continue
        files[path] = _read(name, installed, path)
    return write_wheel(files)


_SCRIPT_GROUPS = ("console_scripts", "gui_scripts")


def _info_folder(name: str, distribution: metadata.Distribution) -> str:
    for file in distribution.files or ():
        if file.name == "WHEEL" and file.parts[0].endswith(".dist-info"):
            return file.parts[0]
    raise ImageError(
        f"The local package {name} cannot be sent to jobs. The list of its installed files is missing. Install "
        "the package again from where it came."
    )


def _path_in_wheel(installed: Path, folder: Path, info: str) -> str:
    """Return the path in the wheel of an installed file; empty for a file that only the installer needs."""
    if installed.is_relative_to(folder):
        path = PurePosixPath(installed.relative_to(folder).as_posix())
        return "" if path.parent.name == info and path.name in _INSTALLER_FILES else str(path)
    data = info.removesuffix(".dist-info") + ".data"
    scripts = Path(sysconfig.get_path("scripts")).name
    prefix = _prefix(folder, scripts)
    if prefix is None or not installed.is_relative_to(prefix):
        return ""
    inner = installed.relative_to(prefix)
    if inner.parts[0] == scripts:
        return f"{data}/scripts/{inner.relative_to(scripts).as_posix()}"
    if inner.parts[0].lower() == "include":
        # .../include/site/python3.11/<name>/part.h
        skipped = 3 if inner.parts[1:2] == ("site",) else 2
        return f"{data}/headers/{Path(*inner.parts[skipped + 1 :]).as_posix()}"
    return f"{data}/data/{inner.as_posix()}"


def _prefix(folder: Path, scripts: str) -> Path | None:
    """Return the root of the environment: the nearest folder above site-packages that can hold scripts."""
    return next((parent for parent in folder.parents if (parent / scripts).is_dir() and parent.name != "lib"), None)


def _is_launcher(path: str, started: set[str]) -> bool:
    """Return whether an installer made a script from an entry point. It makes another one in the job's environment."""
    _, _, script = path.partition(".data/scripts/")
    return script.removesuffix(".exe").removesuffix("-script.py") in started


def _read(name: str, installed: Path, path: str) -> WheelFile:
    try:
        content = installed.read_bytes()
        is_executable = has_mode(installed)
    except OSError as error:
        raise ImageError(
            f"The local package {name} cannot be sent to jobs. Its installed file {installed} cannot be read: "
            f"{error.strerror}. Install the package again."
        ) from error
    if ".data/scripts/" in path:
        content = _SHELL_SHEBANG.sub(b"#!python", _PYTHON_SHEBANG.sub(b"#!python", content))
    return WheelFile(content, is_executable)
