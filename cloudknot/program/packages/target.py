"""InstallTarget: the machine and the Python that packages are chosen for. No I/O."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

ARCHITECTURES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""The platforms of Batch's machines, with the architecture in the names of their wheels."""
DEFAULT_LIBC = "manylinux_2_36"
"""The C library of the default base images: Debian 12 has glibc 2.36, and newer ones have a newer glibc (PEP 600)."""
# uv knows these minor versions of glibc 2, and takes no others.
_UV_GLIBC = (17, 28, *range(31, 41))
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class InstallTarget:
    """The machine and the Python that packages are chosen for.

    Attributes
    ----------
    platform : str
        ``"linux/amd64"`` or ``"linux/arm64"``; empty for this machine.
    python : str
        The minor version of Python, for example ``"3.11"``.
    libc : str
        The newest C library that the wheels may need, as in their names: ``"manylinux_2_28"``, ``"musllinux_1_2"``.
        Empty for this machine.
    here : bool
        Whether jobs are processes of this machine. Then they can use copies of the packages that are installed here.
    """

    platform: str
    python: str
    libc: str = DEFAULT_LIBC
    # Not compared: the same packages fit, wherever the jobs run.
    here: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        place = self.platform or "this machine"
        return f"Python {self.python} on {place}{' with musl' if self._is_musl else ''}"

    @property
    def tag(self) -> str:
        """The platform in uv's form, ``"x86_64-manylinux_2_28"``; empty for this machine."""
        if not self.platform:
            return ""
        architecture = ARCHITECTURES[self.platform]
        if self._is_musl:
            return f"{architecture}-unknown-linux-musl"
        return f"{architecture}-manylinux_2_{max((v for v in _UV_GLIBC if v <= self._libc_minor), default=17)}"

    def wheel_tags(self) -> list[str]:
        """Return the tags of wheels that fit, the best first: ``"cp311-cp311-manylinux_2_28_x86_64"``."""
        from packaging import tags

        version = tuple(map(int, self.python.split(".")))
        platforms = list(self.platforms()) if self.platform else list(tags.platform_tags())
        interpreter = f"cp{version[0]}{version[1]}"
        # An image has the usual build of Python, also where this session is free-threaded.
        specific = tags.cpython_tags(version, None if self.here else [interpreter], platforms)
        return [str(tag) for tag in (*specific, *tags.compatible_tags(version, interpreter, platforms))]

    def platforms(self) -> Iterator[str]:
        """Yield the platforms in the names of wheels that fit, the best first: ``"manylinux_2_28_x86_64"``."""
        architecture = ARCHITECTURES[self.platform]
        kind = "musllinux_1" if self._is_musl else "manylinux_2"
        for minor in range(self._libc_minor, -1 if self._is_musl else 4, -1):
            yield f"{kind}_{minor}_{architecture}"
            if not self._is_musl and minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{architecture}"
        yield f"linux_{architecture}"

    @property
    def _is_musl(self) -> bool:
        return self.libc.startswith("musllinux")

    @property
    def _libc_minor(self) -> int:
        match = re.fullmatch(r"(?:many|musl)linux_\d+_(\d+)", self.libc)
        return int(match[1]) if match else 17

    @classmethod
    def this_machine(cls) -> InstallTarget:
        """Return the target of processes of this machine, with the Python of this session."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        known = {architecture: name for name, architecture in ARCHITECTURES.items()}
        libc, version = platform.libc_ver()
        if sys.platform == "linux" and machine in known and libc == "glibc":
            return cls(known[machine], python, f"manylinux_{version.replace('.', '_')}", here=True)
        return cls("", python, "", here=True)
