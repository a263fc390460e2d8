"""The names that packages of Windows and macOS have on Linux, where jobs run. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from cloudknot.program.packages.solving.lines import parse, without_hashes

if TYPE_CHECKING:
    from packaging.requirements import Requirement

RENAMED = {
    **dict.fromkeys(("tensorflow-intel", "tensorflow-macos"), "tensorflow"),
    **dict.fromkeys(("onnxruntime-directml", "onnxruntime-silicon"), "onnxruntime"),
    "python-magic-bin": "python-magic",
}
"""Packages that have another name on Linux."""
_WINDOWS = re.compile(
    r"pywin32(-ctypes)?|pypiwin32|pywinpty|windows-curses|win32-setctime|win-inet-pton|winkerberos|winrt(-.+)?"
    r"|wmi|comtypes|pycaw|pyreadline3?"
)
_MACOS = re.compile(r"pyobjc(-.+)?|appnope|tensorflow-metal|jax-metal|mlx-metal|rumps")
SAME_VERSIONS = {"tensorflow", "onnxruntime"}
"""Packages that have the same versions under all their names."""
MODULES = {
    **dict.fromkeys(("winreg", "winsound", "msvcrt", "msilib", "nt", "_winapi", "_overlapped", "_msi"), "Windows"),
    "_scproxy": "macOS",
}
"""Modules of the standard library that Linux does not have, with the system that has them."""
_MACHINES = ("x86_64", "aarch64")


def system_of(name: str) -> str:
    """Return the only system that has a package, ``"Windows"`` or ``"macOS"``, by its canonical name; else empty."""
    name = RENAMED.get(name, name)
    return "Windows" if _WINDOWS.fullmatch(name) else "macOS" if _MACOS.fullmatch(name) else ""


def linux_name(name: str) -> str:
    """Return the canonical name on Linux of a package, by its canonical name here."""
    return RENAMED.get(name, name)


def for_linux(lines: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the requirement lines that Linux has, under its names, and the names of the packages that it lacks.

    A line whose marker excludes Linux is left out, and is no such package.
    """
    kept: dict[str, None] = {}
    lacking: dict[str, None] = {}
    for line in lines:
        # The version of a package that is not required needs no file.
        requirement = None if line.startswith("-") else parse(line)
        if requirement is None or requirement.url:
            kept[line] = None
        elif on_linux(requirement):
            name = _canonical(requirement)
            (lacking if system_of(name) else kept)[name if system_of(name) else _renamed(line, requirement)] = None
    return list(kept), list(lacking)


def _renamed(line: str, requirement: Requirement) -> str:
    name = _canonical(requirement)
    if name not in RENAMED:
        return line
    requirement.name = linux_name(name)
    if requirement.name not in SAME_VERSIONS:
        requirement.specifier = type(requirement.specifier)()
    # The hashes are those of files for the other system.
    return without_hashes(str(requirement))


def on_linux(requirement: Requirement) -> bool:
    """Return whether the marker of a requirement includes Linux, on any kind of machine."""
    return requirement.marker is None or any(
        requirement.marker.evaluate({**environment, "extra": ""}) for environment in _environments()
    )


def _environments() -> Iterator[dict[str, str]]:
    for machine in _MACHINES:
        yield {
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": machine,
            "platform_release": "",
            "platform_version": "",
        }


def only_here(
    needs: Mapping[str, Iterable[Requirement]],
    asked: Collection[str],
    is_needed: Callable[[Requirement], bool] | None = None,
) -> set[str]:
    """Return the installed packages that only other packages need, and these only on the system here.

    Parameters
    ----------
    needs : mapping of str to iterable of Requirement
        The requirements of each installed package, by its canonical name.
    asked : collection of str
        Packages that a person installed by name.
    is_needed : callable, optional
        Whether a requirement holds on this system. Default: by its marker.
    """
    is_needed = is_needed or _is_needed_here
    found: set[str] = set()
    while True:
        here = {_canonical(part) for part in chain.from_iterable(needs.values()) if is_needed(part)}
        kept = chain.from_iterable(parts for name, parts in needs.items() if name not in found)
        there = {_canonical(part) for part in kept if on_linux(part)}
        new = (here - there) & needs.keys() - set(asked) - found
        if not new:
            return found
        found |= new


def _is_needed_here(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _canonical(requirement: Requirement) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(requirement.name)
