"""Resolve requirements to a lock for a target: from a stored lock, with uv, or with pip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from cloudknot.errors import ImageError, refuse
from cloudknot.options import streams
from cloudknot.program.packages.lock import LocalWheel, Lock
from cloudknot.program.packages.target import InstallTarget

if TYPE_CHECKING:
    from cloudknot.program.packages.solving.request import LockRequest, Replacement


def resolve(
    requirements: Sequence[str],
    target: InstallTarget,
    wheels: Sequence[LocalWheel] = (),
    *,
    refresh: bool = False,
    preferred: Collection[str] = (),
) -> Lock:
    """Return the lock of some requirement lines for a target.

    The versions that are installed here are the first choice. A package without a wheel for the target in that
    version gets the nearest version that has one, with a warning. A package without any such wheel gets its source
    archive.

    Parameters
    ----------
    requirements : sequence of str
        pip requirement lines.
    target : InstallTarget
    wheels : sequence of LocalWheel
        Local packages. Their own requirements are resolved too; the packages themselves stay out of the lock.
    refresh : bool
        Whether to resolve again, although a lock of the same input is stored.
    preferred : collection of str
        Names of the packages whose line says only which version is installed here. Another version may replace it.

    Raises
    ------
    CloudknotInputError
        An option among the lines is not one for an index.
    ImageError
        The requirements have no solution, or the index does not answer.
    """
    from cloudknot.program.packages.indexes import Indexes
    from cloudknot.program.packages.solving import installed, stored
    from cloudknot.program.packages.solving.request import LockRequest

    _check_options(requirements)
    indexes = Indexes.of_lines(requirements)
    request = LockRequest(tuple(requirements), target, tuple(wheels), frozenset(preferred), indexes, refresh)
    here = installed.versions()
    kept = None if refresh else stored.read(request, here)
    if kept is None:
        kept = _solve(request, here)
        # An index gives a lock with files as soon as it answers again.
        if not any(package.is_copy for package in kept[0].packages):
            stored.write(request, here, *kept)
    lock, notes = kept
    for note in notes:
        streams.warn(note)
    return lock


def _check_options(requirements: Sequence[str]) -> None:
    """Refuse an option that nobody would read, in requirements that a person has edited."""
    from cloudknot.program.packages.indexes import is_index_option

    for line in requirements:
        if line.startswith("-") and not (is_index_option(line) or line == "--pre" or line.startswith("--constraint ")):
            refuse(
                problem=f"The option {line!r} has no effect in an edited requirements.txt.",
                fix="Write the requirement lines themselves, or pass the file as requirements=.",
            )


def _solve(request: LockRequest, here: Mapping[str, str]) -> tuple[Lock, list[str]]:
    from cloudknot.program.packages import uv
    from cloudknot.program.packages.download import with_hash
    from cloudknot.program.packages.solving.failures import Kind, UnsolvedError, explain
    from cloudknot.program.packages.solving.offline import installed_packages
    from cloudknot.program.packages.solving.pip_tool import PipTool
    from cloudknot.program.packages.solving.uv_tool import UvTool
    from cloudknot.program.packages.solving.versions import Versions

    tool = UvTool() if uv.find() else PipTool()
    try:
        packages, replaced = Versions(tool, request, here).choose()
    except UnsolvedError as error:
        copies = installed_packages(request, here) if error.kind is Kind.OFFLINE and request.target.here else None
        if copies is not None:
            return Lock(request.target, tuple(copies)), []
        raise ImageError(explain(error, request.lines, request.target, tool.name), log=error.text) from None
    packages = sorted(map(with_hash, packages), key=lambda package: package.name)
    return Lock(request.target, tuple(packages)), [_note(new, request.target) for new in replaced]


def _note(new: Replacement, target: InstallTarget) -> str:
    reason = (
        f"other requirements exclude {new.installed}"
        if new.has_file
        else f"{new.installed} has no wheel for {target} in the package index"
    )
    return (
        f"Jobs get {new.name} {new.chosen}, and {new.installed} is installed here: {reason}. To have the same version "
        f"in both places, run `pip install {new.name}=={new.chosen}`, or pass requirements=[...]."
    )
