"""Lock: the exact packages of a job, with the hash of each file. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from cloudknot.program.packages.target import InstallTarget

PYPI = "https://pypi.org/simple"
PYPI_FILES = "https://files.pythonhosted.org/"
"""The address of all files of `PYPI`."""


@dataclass(frozen=True)
class LockedPackage:
    """One file of an index: a wheel, or a source archive where no wheel exists for the target.

    Attributes
    ----------
    name, version : str
        The canonical name, and the exact version.
    filename : str
        ``"numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl"``
    sha256 : str
        In hexadecimal.
    url : str
        The address of the file, without credentials: ``https://`` or ``file://``.
    size : int
        Bytes; 0 if the index does not report it.

    Without an index, a package has no file: ``filename``, ``sha256`` and ``url`` are empty. Then the package that is
    installed here in this version is the only source.
    """

    name: str
    version: str
    filename: str
    sha256: str
    url: str
    size: int = 0

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def is_copy(self) -> bool:
        """Whether the package can only be copied from the one that is installed here, because no index answered."""
        return not self.filename


@dataclass(frozen=True)
class LocalWheel:
    """A package that did not come from an index, as a wheel that was built or packed on this machine."""

    name: str
    version: str
    filename: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Lock:
    """All packages of an index that a job needs, for one target.

    Attributes
    ----------
    target : InstallTarget
    packages : tuple of LockedPackage
        Sorted by name. Local packages are not among them.
    """

    target: InstallTarget
    packages: tuple[LockedPackage, ...]

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the target and of each file's name and hash: not of its address."""
        files = [(package.name, package.version, package.filename, package.sha256) for package in self.packages]
        parts = [self.target.platform, self.target.python, self.target.libc, sorted(files)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def text(self, *, with_folders: bool = False) -> str:
        """Return the lock as ``pylock.toml`` (PEP 751).

        Only with ``with_folders`` it names the folders of files on this machine. Without them it is the same on every
        machine.
        """
        lines = ['lock-version = "1.0"', 'created-by = "cloudknot"', f'requires-python = "=={self.target.python}.*"']
        for package in self.packages:
            if package.is_copy:
                # A lock file has no form for it: it has no file.
                lines += ["", f"# {package.name} {package.version}: a copy of the package that is installed here"]
                continue
            lines += ["", "[[packages]]", f'name = "{package.name}"', f'version = "{package.version}"']
            # uv keeps files by their index. With this name, it finds those of the user's own installations.
            lines += [f'index = "{PYPI}"'] if package.url.startswith(PYPI_FILES) else []
            lines.append(_files_key(package, with_folders))
        return "".join(f"{line}\n" for line in lines)

    def sources(self) -> Iterator[LockedPackage]:
        """Yield the packages without a wheel for the target. They must be built before they can be installed."""
        return (package for package in self.packages if not package.is_wheel and not package.is_copy)


def _files_key(package: LockedPackage, with_folders: bool) -> str:
    """Return the line of a pylock.toml that names a package's file."""
    # A string of JSON with plain characters is a string of TOML.
    name = json.dumps(package.filename)
    is_portable = with_folders or not package.url.startswith("file:")
    place = f"url = {json.dumps(package.url)}" if is_portable else f"path = {name}"
    size = f", size = {package.size}" if package.size else ""
    file = f'{{name = {name}, {place}{size}, hashes = {{sha256 = "{package.sha256}"}}}}'
    return f"wheels = [{file}]" if package.is_wheel else f"sdist = {file}"
