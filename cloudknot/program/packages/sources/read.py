"""Read ``requirements=``: lines, or a file of pip, uv or conda, as checked requirement lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from os import PathLike, fspath
from pathlib import Path

from cloudknot.errors import refuse

_FILE = re.compile(r"(?P<path>.+?\.(?:txt|in|toml|lock|ya?ml))(?:\[(?P<extras>[\w.,\s-]*)\])?")


def read(requirements: Iterable[str] | str | PathLike[str], apt_packages: Collection[str] = ()) -> list[str]:
    """Return requirement lines and options in pip's format, without comments, includes and credentials.

    Paths become absolute. A line of a constraints file becomes ``--constraint LINE``.

    Parameters
    ----------
    requirements : iterable of str, str, or Path
        Lines; or the path of a requirements file, ``pyproject.toml``, ``uv.lock``, ``pylock.toml`` or
        ``environment.yml``. After the path, brackets can name extras and groups: ``"pyproject.toml[plots]"``.
    apt_packages : collection of str
        Debian packages of the image, which stand for packages that only conda has.

    Raises
    ------
    CloudknotInputError
        A line is not a requirement, or the file cannot be read. The message names the file and the line.
    """
    from cloudknot.program.packages.sources.pip_lines import LineOrigin, checked

    if isinstance(requirements, str | PathLike):
        path, extras = _path(requirements)
        if path is not None:
            return _read_file(path, extras, apt_packages)
        requirements = [fspath(requirements)]
    origin = LineOrigin(Path())
    return [line for text in list(requirements) for line in checked(text, origin)]


def _path(requirements: str | PathLike[str]) -> tuple[Path | None, tuple[str, ...]]:
    """Return the path and the extras of a file; None for text that is a requirement line."""
    text = fspath(requirements)
    if isinstance(requirements, PathLike) or "://" not in text:
        match = _FILE.fullmatch(text)
        if match:
            extras = (match["extras"] or "").split(",")
            return Path(match["path"]).expanduser(), tuple(extra.strip() for extra in extras if extra.strip())
        if isinstance(requirements, PathLike) or Path(text).expanduser().is_file():
            return Path(text).expanduser(), ()
    return None, ()


def _read_file(path: Path, extras: tuple[str, ...], apt_packages: Collection[str]) -> list[str]:
    from cloudknot.program.packages.sources import conda, locks, pip_lines, project

    if path.name == "pyproject.toml":
        return project.read(path, extras)
    if path.name == "uv.lock":
        return locks.read_uv(path, extras)
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", path.name):
        return locks.read_pylock(path)
    if extras:
        refuse(
            problem=f"{path.name} has no extras, but requirements= names {', '.join(extras)}.",
            fix="Remove the brackets, or pass 'pyproject.toml[extra]'.",
        )
    if path.suffix in (".yml", ".yaml"):
        return conda.read(path, apt_packages)
    if path.suffix in (".toml", ".lock"):
        refuse(
            problem=f"requirements={str(path)!r} is a file of unknown kind.",
            fix="Pass a requirements.txt, pyproject.toml, uv.lock, pylock.toml or environment.yml.",
        )
    return list(pip_lines.read(path))
