"""Copy packages from the user's own Python to an environment, for a first environment without downloads.

Only complete packages of an index are copied. conda's and Debian's packages need files elsewhere. Editable packages
and ``.pth`` files lead to the user's own folders. A copy is kept beside the environments, and they share its files by
hard links. The user's own files are never linked, because pip and editors write to some of them in place.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from email import message_from_string
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from cloudknot.local.runners.images.contents import ListedFile, hash_of, listed_files, site_packages
from cloudknot.program.packages.lock import LockedPackage

COPIES = ".packages"
"""The folder of the copies, in the folder of the environments."""
INSTALLERS = frozenset({"pip", "uv"})
"""Tools that install whole wheels. conda and Debian install packages whose libraries are elsewhere."""
LONGEST_SHEBANG = 127
"""Characters that every Linux reads of the first line of a script."""

# The lines that name the interpreter: the plain form, and the form of pip and uv for long paths.
_SHEBANG = re.compile(rb"\A#!(/bin/sh\n'''exec' [^\n]*\n' '''|[^\n]*python[^\n]*)\n")
_OWN_FILES = ("/RECORD", "/INSTALLER", "/REQUESTED")
"""Files of an installer, which it may list without a hash."""


def copy_installed(packages: Iterable[LockedPackage], environment: Path) -> list[LockedPackage]:
    """Copy packages that are installed here in the same version to an environment, and return them."""
    return [package for package in packages if _copy(package, environment)]


def forget(environment: Path, names: Iterable[str]) -> None:
    """Delete the kept copies of some packages, because one was damaged."""
    for name in names:
        for copy in (environment.parent / COPIES).glob(f"{name}-*"):
            shutil.rmtree(copy, ignore_errors=True)


def _copy(package: LockedPackage, environment: Path) -> bool:
    found = _installed(package)
    if found is None:
        return False
    record = found.read_text("RECORD") or ""
    files = listed_files(record)
    digest = hashlib.sha256(record.encode()).hexdigest()[:16]
    copy = environment.parent / COPIES / f"{package.name}-{package.version}-{digest}"
    # A copy has the folders of an environment, because some files are outside site-packages.
    place = site_packages(environment).relative_to(environment)
    try:
        if not copy.is_dir():
            _keep(Path(str(found.locate_file(""))), files, copy, place)
        _link(files, copy / place, environment / place, environment)
    except FileNotFoundError:
        # Another process has changed the installed package meanwhile, or removed the copy.
        return False
    return True


def _installed(package: LockedPackage) -> Distribution | None:
    """Return the installed package; None if there is none of that version that may be copied."""
    try:
        found = distribution(package.name)
    except (PackageNotFoundError, ValueError):
        return None
    record = found.read_text("RECORD")
    # An entry for a local or editable package has a direct_url.json (PEP 610).
    is_from_index = found.read_text("direct_url.json") is None
    installer = (found.read_text("INSTALLER") or "").strip()
    may_copy = record and is_from_index and installer in INSTALLERS and _is_same_build(found, package)
    return found if may_copy and all(map(_may_copy, listed_files(record or ""))) else None


def _is_same_build(found: Distribution, package: LockedPackage) -> bool:
    """Return whether an installed package comes from a wheel of the locked name."""
    from packaging.tags import parse_tag
    from packaging.utils import parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        if Version(found.version) != Version(package.version):
            return False
    except InvalidVersion:
        return False
    # Without a wheel for this machine, the one installed here was built from the source archive.
    if not package.is_wheel:
        return True
    wheel = message_from_string(found.read_text("WHEEL") or "")
    tags = {tag for line in wheel.get_all("Tag", []) for tag in parse_tag(line)}
    return tags == parse_wheel_filename(package.filename)[3]


def _may_copy(file: ListedFile) -> bool:
    path = PurePosixPath(file.path)
    # Three levels up from site-packages is the folder of the environment itself.
    leads_out = path.is_absolute() or path.parts[:4] == ("..",) * 4
    has_hash = bool(file.sha256) or file.path.endswith(_OWN_FILES)
    return has_hash and not leads_out and path.suffix != ".pth"


def _keep(origin: Path, files: Iterable[ListedFile], copy: Path, place: Path) -> None:
    """Copy the installed files of a package. The copy appears by a rename, so it is always complete."""
    temporary = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}")
    (temporary / place).mkdir(parents=True)
    try:
        for file in files:
            target = temporary / place / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin / file.path, target)
        # Another session may have made the same copy first.
        with contextlib.suppress(OSError):
            temporary.rename(copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(files: Iterable[ListedFile], copy: Path, place: Path, environment: Path) -> None:
    """Link a copy's files into an environment. Scripts get its Python, and RECORD gets their hashes."""
    record, lines = "", []
    for file in files:
        target = Path(os.path.normpath(place / file.path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.path.endswith(".dist-info/RECORD"):
            record = file.path
        elif target.parent == environment / "bin":
            lines.append(_write_script(copy / file.path, target, file.path, environment))
            continue
        else:
            # Another package may have brought a file of the same path. pip and uv replace it, too.
            target.unlink(missing_ok=True)
            os.link(copy / file.path, target)
        lines.append([file.path, file.sha256 and f"sha256={file.sha256}", ""])
    with open(place / record, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)


def _write_script(original: Path, target: Path, path: str, environment: Path) -> list[str]:
    """Write a script for an environment's Python, and return its line for RECORD."""
    python = f"{environment}/bin/python"
    is_short = len(python) + 2 <= LONGEST_SHEBANG and " " not in python
    line = f"#!{python}\n" if is_short else f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"
    content = _SHEBANG.sub(lambda _: line.encode(), original.read_bytes())
    target.write_bytes(content)
    shutil.copymode(original, target)
    return [path, f"sha256={hash_of(content)}", str(len(content))]
