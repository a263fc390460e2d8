"""Build the wheels of locked source archives that hold nothing to compile, so that no job needs to build them."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cloudknot.options import streams
from cloudknot.program.packages.download import download
from cloudknot.program.packages.lock import LocalWheel, Lock, LockedPackage
from cloudknot.program.packages.wheels import build, cache
from cloudknot.program.packages.wheels.archive import FORMAT, read_wheel, write_wheel

_COMPILED = {
    *(".c", ".cc", ".cpp", ".cxx", ".cu", ".f", ".f77", ".f90", ".f95", ".go", ".h", ".hpp", ".pyx", ".rs", ".swg"),
    *("CMakeLists.txt", "meson.build", "Cargo.toml"),
}
"""Suffixes and names of files that a compiler reads."""


def with_built_sources(lock: Lock) -> tuple[Lock, tuple[LocalWheel, ...]]:
    """Return a lock without the source archives whose wheels run everywhere, and these wheels.

    An archive that has compiled parts, or that does not build here, stays in the lock.
    """
    built = {package.name: wheel for package in lock.sources() if (wheel := _wheel(package))}
    kept = tuple(package for package in lock.packages if package.name not in built)
    return replace(lock, packages=kept), tuple(built[name] for name in sorted(built))


def _wheel(package: LockedPackage) -> LocalWheel | None:
    """Return the wheel of a source archive; None if it cannot be made here, or runs on this kind of machine only."""
    # The hash is that of the source, so no other version of Python gives another wheel without compiled parts.
    key = f"source{FORMAT}-{package.sha256}"
    wheel = cache.read(key)
    if wheel is None and not package.is_copy:
        with tempfile.TemporaryDirectory(prefix="cloudknot-", ignore_cleanup_errors=True) as folder:
            archive = download(package, Path(folder))
            wheel = None if _has_compiled_parts(archive) else _built(archive, package)
        if wheel:
            cache.write(key, wheel)
    return wheel


def _built(archive: Path, package: LockedPackage) -> LocalWheel | None:
    try:
        wheel = write_wheel(read_wheel(build.run_build(archive, package.name, package.version)))
    except build.FailedBuildError as error:
        streams.warn(
            f"{package.filename} does not build on this machine, so the image's build tries it again, which takes "
            f"longer. Install the tools that it needs, or choose another version. The build reports:\n{error}",
        )
        return None
    return wheel if wheel.filename.endswith("-none-any.whl") else None


def _has_compiled_parts(archive: Path) -> bool:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
    else:
        with tarfile.open(archive) as file:
            names = file.getnames()
    return any({PurePosixPath(name).suffix.lower(), PurePosixPath(name).name} & _COMPILED for name in names)
