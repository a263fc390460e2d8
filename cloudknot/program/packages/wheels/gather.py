"""Lock the packages of an index, and make the wheels of all others. The index is not asked for local packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from cloudknot.program.packages.distributions import local_distributions
from cloudknot.program.packages.lock import LocalWheel, Lock
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.fetch import is_address, wheel_at
from cloudknot.program.packages.wheels.local_wheels import wheels_of
from cloudknot.program.packages.wheels.sources import with_built_sources

_NAME = re.compile(r"\A([A-Za-z0-9][A-Za-z0-9._-]*)")


def gather(
    names: Iterable[str],
    requirements: Sequence[str],
    target: InstallTarget,
    resolve: Callable[..., Lock],
    *,
    refresh: bool = False,
    wheels: Iterable[LocalWheel] = (),
    fetch: Callable[[str, InstallTarget], LocalWheel] | None = None,
) -> tuple[Lock, tuple[LocalWheel, ...]]:
    """Return the lock of some requirements, and the wheels of the local packages.

    Parameters
    ----------
    names : iterable of str
        Canonical names of local packages.
    requirements : sequence of str
        pip requirement lines. A line with the address of a package gives a wheel.
    target : InstallTarget
    resolve : callable
        `cloudknot.program.packages.resolve.resolve`, or a function like it.
    refresh : bool
        Whether to resolve again, although a lock of the same input is stored.
    wheels : iterable of LocalWheel
        Further wheels, which were made before.
    fetch : callable, optional
        Makes the wheel of the package at an address. Default: `cloudknot.program.packages.wheels.fetch.wheel_at`.

    Raises
    ------
    ImageError
        A wheel cannot be made, or the requirements have no solution.
    """
    addressed = ((fetch or wheel_at)(line, target) for line in requirements if is_address(line))
    made = {wheel.name: wheel for wheel in (*wheels, *addressed)}
    needed = set(names) - made.keys()
    while True:
        made |= {wheel.name: wheel for wheel in wheels_of(needed, target)}
        lines = tuple(line for line in requirements if not is_address(line) and _name(line) not in made)
        ordered = tuple(made[name] for name in sorted(made))
        lock = resolve(lines, target, ordered, refresh=refresh)
        # A dependency of a package may have the name of a local package. The index's package of that name is another.
        needed = {package.name for package in lock.packages} & local_distributions().keys() - made.keys()
        if not needed:
            lock, built = with_built_sources(lock)
            return lock, tuple(sorted((*ordered, *built), key=lambda wheel: wheel.name))


def _name(line: str) -> str:
    from packaging.utils import canonicalize_name

    match = _NAME.match(line)
    return canonicalize_name(match[1]) if match else ""
