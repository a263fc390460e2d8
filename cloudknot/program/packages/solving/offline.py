"""Make a lock without an index: from the packages that are installed on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from email.parser import BytesParser
from importlib import metadata

from cloudknot.program.packages.lock import LocalWheel, LockedPackage
from cloudknot.program.packages.solving.lines import constraints_in, parse
from cloudknot.program.packages.solving.request import LockRequest


def installed_packages(request: LockRequest, here: Mapping[str, str]) -> list[LockedPackage] | None:
    """Return the packages of a request as copies of those installed here; None if one is missing or does not fit.

    Parameters
    ----------
    request : LockRequest
    here : mapping of str to str
        The versions of the packages that are installed here from an index.
    """
    local = {wheel.name for wheel in request.wheels}
    waiting = [(line, "") for line in request.lines if not line.startswith("-")]
    waiting += [*((line, "") for wheel in request.wheels for line in _needs_of(wheel))]
    limits = [parse(line) for line in constraints_in(request.lines)]
    names: set[str] = set()
    seen = set(waiting)
    while waiting:
        line, extra = waiting.pop()
        requirement = parse(line)
        if requirement is None or requirement.url:
            return None
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = _canonical(requirement.name)
        if name in local:
            continue
        if name not in here or not requirement.specifier.contains(here[name], prereleases=True):
            return None
        names.add(name)
        needed = {(need, part) for need in metadata.requires(name) or () for part in ("", *requirement.extras)}
        waiting += needed - seen
        seen |= needed
    for limit in filter(None, limits):
        version = here.get(_canonical(limit.name))
        if _canonical(limit.name) in names and version and not limit.specifier.contains(version, prereleases=True):
            return None
    return list(_copies(names, here))


def _copies(names: Iterable[str], here: Mapping[str, str]) -> Iterator[LockedPackage]:
    for name in sorted(names):
        yield LockedPackage(name, here[name], "", "", "")


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _needs_of(wheel: LocalWheel) -> list[str]:
    """Return the requirement lines in the metadata of a wheel."""
    from cloudknot.program.packages.solving.stored import metadata_of

    return BytesParser().parsebytes(metadata_of(wheel)).get_all("Requires-Dist") or []
