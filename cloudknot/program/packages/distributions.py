"""Find out where each installed distribution came from. Reads metadata only, and imports none of the packages.

A distribution that came from a package index is named in a job's requirements. All others are *local*: the index does
not have them, or has somebody else's package under their name. `cloudknot.program.packages.wheels` makes wheels of
them.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cloudknot.program.files.text import decoded

INSTALLED = {"site-packages", "dist-packages"}
"""Names of the folders that hold installed distributions."""
EDITABLE = "an editable installation"
FOLDER = "a folder"
ARCHIVE = "an archive"
REPOSITORY = "a repository"


@dataclass(frozen=True)
class LocalDistribution:
    """An installed distribution that did not come from a package index.

    Attributes
    ----------
    name, version : str
        The canonical name, and the version.
    origin : str
        `EDITABLE`, `FOLDER`, `ARCHIVE` or `REPOSITORY`.
    address : str
        The folder or the address that it was installed from, for messages.
    source : Path or None
        The folder with its source code, for an editable installation. Python imports the modules from there.
    roots : tuple of Path
        The folders of an editable installation that Python searches for its modules.
    """

    name: str
    version: str
    origin: str
    address: str
    source: Path | None = None
    roots: tuple[Path, ...] = ()


def local_distributions() -> Mapping[str, LocalDistribution]:
    """Return the installed distributions that did not come from an index, by canonical name."""
    # An installation changes the modification time of its folder.
    folders = map(os.path.abspath, sys.path)
    return _read_all(tuple((folder, _modified(folder)) for folder in folders))


def modules_of_scripts() -> dict[str, str]:
    """Return the modules of the scripts that local packages have as entry points, by the script's name."""
    points = (point for package in local_distributions() for point in metadata.distribution(package).entry_points)
    return {point.name: point.module for point in points if point.group in ("console_scripts", "gui_scripts")}


def _modified(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _read_all(path: tuple[tuple[str, int], ...]) -> dict[str, LocalDistribution]:
    found: dict[str, LocalDistribution | None] = {}
    for distribution in metadata.distributions(path=[entry for entry, _ in path]):
        name = name_of(distribution)
        # Python imports from the first folder of the path, so an earlier distribution hides a later one.
        if name and name not in found:
            found[name] = _local(name, distribution)
    return {name: local for name, local in found.items() if local}


def name_of(distribution: metadata.Distribution) -> str:
    """Return the canonical name of a distribution; empty if its metadata is damaged."""
    from packaging.utils import canonicalize_name

    # Distribution.name would parse the whole METADATA file, which takes most of the time for many distributions.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    line = next((line for line in text.splitlines() if line.lower().startswith("name:")), "")
    return canonicalize_name(line.partition(":")[2].strip())


def origin_of(distribution: metadata.Distribution) -> LocalDistribution | None:
    """Return the origin of an installed distribution; None if it came from a package index or from conda."""
    return _local(name_of(distribution), distribution)


def _local(name: str, distribution: metadata.Distribution) -> LocalDistribution | None:
    folder = Path(str(distribution.locate_file("")))
    direct_url = distribution.read_text("direct_url.json")
    if direct_url is None:
        return _without_record(name, distribution, folder)
    # conda builds its packages from folders of its own build machines. The index has the same packages.
    if (distribution.read_text("INSTALLER") or "").strip() == "conda" or _is_from_conda(name, distribution.version):
        return None
    try:
        origin = json.loads(direct_url)
        url = str(origin["url"])
    except (ValueError, KeyError, TypeError):
        return None
    return _recorded(name, distribution, origin, url)


def _recorded(
    name: str, distribution: metadata.Distribution, origin: Mapping[str, Any], url: str
) -> LocalDistribution | None:
    """Return the origin that an installer recorded (PEP 610)."""
    address, folder = _without_login(url), _folder(url)
    if "vcs_info" in origin:
        address = f"{address}@{origin['vcs_info'].get('commit_id', '')}".rstrip("@")
        return LocalDistribution(name, distribution.version, REPOSITORY, address)
    if "dir_info" not in origin:
        return LocalDistribution(name, distribution.version, ARCHIVE, str(folder or address))
    if not origin["dir_info"].get("editable"):
        return LocalDistribution(name, distribution.version, FOLDER, str(folder or address))
    source = folder / str(origin.get("subdirectory", "")) if folder else None
    roots = _roots(distribution)
    return LocalDistribution(name, distribution.version, EDITABLE, str(folder or address), source, roots)


def _without_record(name: str, distribution: metadata.Distribution, folder: Path) -> LocalDistribution | None:
    """Return the origin of a distribution without direct_url.json, as ``setup.py develop`` installs it."""
    is_egg_info = distribution.read_text("METADATA") is None
    if is_egg_info and not INSTALLED & set(folder.parts):
        source = _project(folder)
        return LocalDistribution(name, distribution.version, EDITABLE, str(source), source, (folder,))
    if is_egg_info or not _has_editable_files(str(folder), _modified(str(folder))):
        return None
    roots = tuple(root for root in _roots(distribution) if not INSTALLED & set(root.parts))
    if not roots:
        return None
    source = _project(roots[0])
    return LocalDistribution(name, distribution.version, EDITABLE, str(source), source, roots)


def _project(folder: Path) -> Path:
    """Return the project that a folder with packages belongs to: the nearest one with a build file."""
    candidates = (folder, *folder.parents[:2])
    is_project = (path for path in candidates if (path / "pyproject.toml").is_file() or (path / "setup.py").is_file())
    return next(is_project, folder)


@lru_cache(maxsize=64)
def _has_editable_files(folder: str, modified: int) -> bool:
    """Return whether a folder has any file that could belong to an editable installation."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(
        name.startswith("__editable__") or (name.endswith(".pth") and _lines_of(folder, name)) for name in names
    )


def _roots(distribution: metadata.Distribution) -> tuple[Path, ...]:
    """Return the folders that an editable installation adds to the import path."""
    roots: list[Path] = []
    for file in distribution.files or ():
        if len(file.parts) > 1:
            continue
        folder = str(distribution.locate_file(""))
        if file.name.endswith(".pth"):
            roots += _lines_of(folder, file.name)
        elif file.name.startswith(("__editable__", "_editable_impl")) and file.suffix == ".py":
            roots += _mapped(Path(folder, file.name))
    return tuple(dict.fromkeys(roots))


def _lines_of(folder: str, name: str) -> list[Path]:
    """Return the folders that a ``.pth`` file names. Its other lines are code."""
    try:
        lines = decoded(Path(folder, name).read_bytes()).splitlines()
    except OSError:
        return []
    return [Path(folder, line.strip()) for line in lines if line.strip() and Path(folder, line.strip()).is_dir()]


def _mapped(finder: Path) -> Iterator[Path]:
    """Yield the folders above the packages that a finder of setuptools maps."""
    try:
        tree = ast.parse(finder.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            values = (value.value for value in node.values if isinstance(value, ast.Constant))
            yield from (Path(value).parent for value in values if isinstance(value, str) and os.path.isabs(value))


def _folder(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    return Path(url2pathname(parts.path))


def _without_login(url: str) -> str:
    """Return an address without a user's name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _is_from_conda(name: str, version: str) -> bool:
    folder = Path(sys.prefix, "conda-meta")
    return folder.is_dir() and any(folder.glob(f"{name}-{version}-*.json"))
