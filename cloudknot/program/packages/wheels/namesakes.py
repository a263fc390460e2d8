"""Detect that an index has another package under the name and version of an installed one.

An installer records no origin for a package of ``--find-links`` or of an index on its command line. Neither does
``setup.py install``. The index of the lock may have a stranger's package of that name and version. The code of both
shows it.
"""

from __future__ import annotations

import functools
import re
import zipfile
from collections.abc import Callable, Collection, Iterable
from importlib import metadata
from pathlib import Path

from cloudknot.errors import refuse
from cloudknot.program.packages.lock import LockedPackage

# A wheel may hold modules in folders that an installer moves.
_MOVED = re.compile(r"\A[^/]+\.data/(pure|plat)lib/")


def refuse_other_wheel(package: LockedPackage, wheel: Path) -> None:
    """Raise `CloudknotInputError` if a downloaded wheel is another package than the installed one of its version."""
    if package.is_wheel and zipfile.is_zipfile(wheel):
        with zipfile.ZipFile(wheel) as archive:
            _refuse_other(package, archive.namelist(), archive.read)


def refuse_other_files(package: LockedPackage, place: Path) -> None:
    """Raise `CloudknotInputError` if an environment's package is another one than the installed one of its version.

    Parameters
    ----------
    package : LockedPackage
    place : Path
        The environment's ``site-packages``.
    """
    found = next(iter(metadata.distributions(name=package.name, path=[str(place)])), None)
    if found and package.is_wheel:
        _refuse_other(package, [str(file) for file in found.files or ()], lambda name: (place / name).read_bytes())


def _refuse_other(package: LockedPackage, names: Collection[str], read: Callable[[str], bytes]) -> None:
    if not _differs(package, names, read):
        return
    title = f"{package.name} {package.version}"
    refuse(
        problem=f"The package index has another {title} than the one that is installed here.",
        cause="They have no Python file in common, so a stranger may have published it under that name.",
        fix="Install yours again from its folder or its wheel (`pip install PATH`): then it travels with the "
        f"function. Or name its index: requirements=['--index-url ...', '{package.name}=={package.version}'].",
    )


def _differs(package: LockedPackage, names: Collection[str], read: Callable[[str], bytes]) -> bool:
    """Return whether a package has no Python file in common with the installed package of its version."""
    ours = _installed_code(package)
    theirs = {_MOVED.sub("", name): name for name in names if name.endswith(".py")}
    shared, compared = ours.keys() & theirs.keys(), False
    for name in shared:
        content = _code(ours[name].read_bytes)
        if content and content == _code(functools.partial(read, theirs[name])):
            return False
        compared = compared or bool(content)
    # Without a path in common, both must have code: some packages hold only libraries.
    if shared:
        return compared
    return _have_code(path.read_bytes for path in ours.values()) and _have_code(
        functools.partial(read, name) for name in theirs.values()
    )


def _installed_code(package: LockedPackage) -> dict[str, Path]:
    """Return the Python files that are listed for the installed package, if it has this version."""
    try:
        found = metadata.distribution(package.name)
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    if found.version != package.version:
        return {}
    # `setup.py install` lists the files of the source folder: some are elsewhere. Debian's packages may have no list.
    return {str(file): Path(str(file.locate())) for file in found.files or () if file.suffix == ".py"}


def _have_code(files: Iterable[Callable[[], bytes]]) -> bool:
    return any(map(_code, files))


def _code(read: Callable[[], bytes]) -> bytes:
    """Return the content of a file; nothing for a missing one."""
    try:
        # Wheels for Windows may have other line ends.
        return read().replace(b"\r", b"").strip()
    except (OSError, KeyError):
        return b""
