"""InstallTarget: the machine and the Python that packages are chosen for. No I/O."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

ARCHITECTURES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""The platforms of Batch's machines, with the architecture in the names of their wheels."""
DEFAULT_LIBC = "manylinux_2_28"
"""The C library of the default base images: glibc 2.28 or newer (PEP 600)."""


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
    """

    platform: str
    python: str
    libc: str = DEFAULT_LIBC

    @property
    def tag(self) -> str:
        """The platform in uv's form, ``"x86_64-manylinux_2_28"``; empty for this machine."""
        return f"{ARCHITECTURES[self.platform]}-{self.libc}" if self.platform else ""

    @classmethod
    def this_machine(cls) -> InstallTarget:
        """Return the target of processes of this machine, with the Python of this session."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        known = {architecture: name for name, architecture in ARCHITECTURES.items()}
        if sys.platform == "linux" and machine in known and platform.libc_ver()[0] == "glibc":
            return cls(known[machine], python)
        return cls("", python, "")
