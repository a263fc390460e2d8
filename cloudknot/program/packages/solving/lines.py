"""Read requirement lines in pip's format. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def parse(line: str) -> Requirement | None:
    """Return the parsed line, or None for a bare URL, an option or an invalid line."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        # pip accepts options, such as hashes, after a requirement. packaging does not.
        return Requirement(line.partition(" --")[0])
    except InvalidRequirement:
        return None


def name_of(line: str) -> str:
    """Return the canonical name of the distribution in a requirement line; empty for a bare URL or an option."""
    from packaging.utils import canonicalize_name

    requirement = parse(line)
    return canonicalize_name(requirement.name) if requirement else ""


def pinned_version(line: str) -> str:
    """Return the single exact version that a line asks for; empty for a range, a wildcard or no version."""
    requirement = parse(line)
    if requirement is None or len(requirement.specifier) != 1:
        return ""
    (specifier,) = requirement.specifier
    return "" if specifier.operator not in ("==", "===") or "*" in specifier.version else specifier.version


def loosened(line: str, preferred: Collection[str], here: Mapping[str, str]) -> str:
    """Return a line without its version, if that is only the version installed here."""
    name, version = name_of(line), pinned_version(line)
    if name not in preferred or not version or here.get(name) != version:
        return line
    requirement = parse(line)
    assert requirement is not None
    requirement.specifier = type(requirement.specifier)()
    return str(requirement)


def without_hashes(line: str) -> str:
    """Return a line without its ``--hash`` options."""
    return re.sub(r"\s+--hash[=\s]\S+", "", line)


def hashes_in(lines: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return the SHA-256 hashes that the files of a package may have, by its name."""
    found = {name_of(line): frozenset(re.findall(r"--hash[=\s]sha256:([0-9a-f]{64})", line)) for line in lines}
    return {name: hashes for name, hashes in found.items() if name and hashes}


def constraints_in(lines: Iterable[str]) -> list[str]:
    """Return the lines that limit a package without requiring it: those of ``--constraint LINE``."""
    return [line.removeprefix("--constraint ") for line in lines if line.startswith("--constraint ")]
