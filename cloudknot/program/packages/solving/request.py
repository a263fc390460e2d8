"""LockRequest: everything that decides a lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cloudknot.program.packages.indexes import Indexes
from cloudknot.program.packages.lock import LocalWheel, LockedPackage
from cloudknot.program.packages.target import InstallTarget


@dataclass(frozen=True)
class LockRequest:
    """Requirements to resolve for a target.

    Attributes
    ----------
    lines : tuple of str
        pip requirement lines and options.
    target : InstallTarget
    wheels : tuple of LocalWheel
        Local packages. Their own requirements count.
    preferred : frozenset of str
        Names of the packages whose line says only which version is installed here. Another version may replace it.
    indexes : Indexes
        The places that the packages come from.
    refresh : bool
        Whether to ask the index for new releases, in place of a cache.
    """

    lines: tuple[str, ...]
    target: InstallTarget
    wheels: tuple[LocalWheel, ...]
    preferred: frozenset[str]
    indexes: Indexes
    refresh: bool = False


@dataclass(frozen=True)
class Replacement:
    """A package that jobs get in another version than the one that is installed here."""

    name: str
    installed: str
    chosen: str
    has_file: bool
    """Whether a wheel of the installed version exists for the target, so that other requirements are the reason."""


@dataclass(frozen=True)
class ToolOptions:
    """The freedom of a tool in one resolution.

    Attributes
    ----------
    preferences : mapping of str to str
        Versions to choose where the requirements permit them.
    archives : bool
        Whether packages may be source archives.
    binary : frozenset of str
        Names of the packages that must be wheels nevertheless.
    alone : bool
        Whether the requirements of the packages do not count.
    lowest : bool
        Whether to choose the lowest permitted version in place of the highest.
    any_index : bool
        Whether a package may come from any index. Otherwise it comes from the first index that has its name. Then
        nobody can replace a private package with a newer one of the same name in a public index.
    """

    preferences: Mapping[str, str]
    archives: bool = False
    binary: frozenset[str] = frozenset()
    alone: bool = False
    lowest: bool = False
    any_index: bool = False


class Tool(Protocol):
    """A program that resolves requirement lines: uv or pip."""

    def compile(self, lines: tuple[str, ...], request: LockRequest, choices: ToolOptions) -> list[LockedPackage]:
        """Return the packages for some lines of a request.

        Raises
        ------
        UnsolvedError
            There is no solution, or the index cannot be used.
        """
