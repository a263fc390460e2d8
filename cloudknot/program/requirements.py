"""Turn imported names into pip requirement lines, pinned to the versions installed here.

This module asks no package index. It reads installed distributions, and pipreqs' table for imports that are not
installed. Such a requirement is not pinned, and the import is reported as missing. An import that is in neither place
is unknown.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from cloudknot.errors import refuse
from cloudknot.options import streams
from cloudknot.program import imports

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from cloudknot.program.packages.distributions import LocalDistribution


# Tools that install packages, and the package that makes jobs.
_NOT_FOR_JOBS = {"cloudknot", "pip", "uv"}


@dataclass(frozen=True)
class Requirements:
    """The packages that a job needs.

    Attributes
    ----------
    lines : tuple of str
        pip requirement lines, sorted.
    imports : tuple of str
        Top-level names that installed distributions provide.
    missing : tuple of str
        Top-level names that are not installed, but are in pipreqs' table.
    unknown : tuple of str
        Top-level names that are neither installed nor in the table.
    local : tuple of str
        Canonical names of the local packages, which travel as wheels and are in none of the lines.
    elsewhere : mapping of str to str
        Imported names that only Windows or macOS has, with the name of that system.
    """

    lines: tuple[str, ...]
    imports: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def canonical(name: str) -> str:
    """Return a distribution's name as package indexes normalise it."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def name_of(line: str) -> str:
    """Return the canonical name of the distribution in a requirement line; empty for a bare URL or an option."""
    requirement = _parse(line)
    return canonical(requirement.name) if requirement else ""


def without_pin(line: str) -> str:
    """Return a requirement line without its version, if it names a single exact version."""
    requirement = _parse(line)
    if requirement is None or requirement.marker:
        return line
    if [specifier.operator for specifier in requirement.specifier] not in (["=="], ["==="]):
        return line
    requirement.specifier = type(requirement.specifier)()
    return str(requirement)


def _parse(line: str) -> Requirement | None:
    """Return the parsed line, or None for a bare URL, an option or an invalid line."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        # pip accepts options, such as hashes, after a requirement. packaging does not.
        return Requirement(line.partition(" --")[0])
    except InvalidRequirement:
        return None


def from_user(requirements: Iterable[str] | str | PathLike[str], apt_packages: Collection[str] = ()) -> Requirements:
    """Check the requirements that the user passed.

    Parameters
    ----------
    requirements : iterable of str, str, or Path
        pip requirement lines; or a requirements file, ``pyproject.toml``, ``uv.lock``, ``pylock.toml`` or
        ``environment.yml``.
    apt_packages : collection of str
        Debian packages of the image, which stand for packages that only conda has.

    Warns
    -----
    UserWarning
        A package exists only for Windows or macOS. It is left out.

    Raises
    ------
    CloudknotInputError
        A line is not a requirement, or the file cannot be read.
    """
    from cloudknot.program.packages.solving import linux_names
    from cloudknot.program.packages.sources.read import read

    unique, lacking = linux_names.for_linux(read(requirements, apt_packages))
    if lacking:
        systems = " or ".join(sorted({linux_names.system_of(name) for name in lacking}))
        streams.warn(
            f"requirements= lists {', '.join(lacking)}, which only {systems} has. Jobs run on Linux and get no such "
            f"package. Remove the line, or add a marker: \"{lacking[0]}; sys_platform != 'linux'\".",
        )
    # Options, such as an index, come first and in the user's order, because they apply to every line.
    return Requirements(tuple(sorted(unique, key=lambda line: (not line.startswith("--"), *_sort_key(line)))))


def with_everything_here(requirements: Requirements) -> Requirements:
    """Return requirements with all distributions that are installed here.

    cloudknot itself is left out, with the distributions that only cloudknot needs.
    """
    from cloudknot.program.packages.distributions import local_distributions
    from cloudknot.program.packages.solving import installed, linux_names

    versions, local = installed.versions(), local_distributions()
    names = (versions.keys() | local.keys()) - _NOT_FOR_JOBS
    of_cloudknot = with_dependencies(_needs_of_cloudknot()) & names
    # Somebody asked for these by name, although cloudknot needs them as well.
    asked = set(filter(_is_asked_for, of_cloudknot))
    kept = (with_dependencies(names - of_cloudknot | asked) & names) - _only_here(names)
    # Nobody listed these, so it goes without saying that jobs get none of another system.
    installed_lines, _ = linux_names.for_linux(f"{name}=={versions[name]}" for name in kept - local.keys())
    lines = {*installed_lines, *requirements.lines}
    needed = (kept & local.keys()) | set(requirements.local)
    return replace(requirements, lines=tuple(sorted(lines, key=_sort_key)), local=tuple(sorted(needed)))


def _only_here(names: Iterable[str]) -> set[str]:
    """Return those of the installed distributions that no other one needs on Linux, and nobody asked for."""
    from importlib import metadata

    from cloudknot.program.packages.solving.linux_names import only_here

    needs: dict[str, list[Requirement]] = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
            needs[name] = [*filter(None, map(_parse, metadata.requires(name) or ()))]
    suspects = only_here(needs, asked=())
    return only_here(needs, asked=set(filter(_is_asked_for, suspects))) if suspects else suspects


def _needs_of_cloudknot() -> list[str]:
    """Return the requirements of cloudknot, with its extra "local" and without the one for developers."""
    from importlib import metadata

    try:
        own = [*filter(None, map(_parse, metadata.requires("cloudknot") or ()))]
    except metadata.PackageNotFoundError:
        return []
    extras = ("", "local")
    needs = [part for part in own if not part.marker or any(part.marker.evaluate({"extra": e}) for e in extras)]
    return [f"{part.name}[{','.join(part.extras)}]" if part.extras else part.name for part in needs]


def _is_asked_for(name: str) -> bool:
    from importlib import metadata

    distribution = metadata.distribution(name)
    # Other installers mark all distributions, or none.
    by_pip = (distribution.read_text("INSTALLER") or "").strip() == "pip"
    return by_pip and distribution.read_text("REQUESTED") is not None


def _sort_key(line: str) -> tuple[str, str]:
    return ("", "") if line.startswith("--") else (name_of(line), line)


def scan(sources: Iterable[str | bytes]) -> set[str]:
    """Return the top-level names that some sources import, without relative imports and the standard library."""
    # pipreqs finds the same names. But it loads an HTTP client, which takes 8 MB and a tenth of a second.
    names = (name for source in sources for name in imports.names_in_tree(imports.parse(source))[0])
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def from_imports(names: Iterable[str], optional: Iterable[str] = ()) -> Requirements:
    """Return the requirements for some imported names.

    Parameters
    ----------
    names : iterable of str
        Absolute module names, as deep as possible. ``google.cloud.storage`` identifies a distribution, ``google``
        does not.
    optional : iterable of str
        Names to skip if they are not installed.
    """
    from cloudknot.program import local_modules
    from cloudknot.program.packages.distributions import local_distributions
    from cloudknot.program.packages.solving import linux_names

    # A job has a stand-in in the place of cloudknot. With cloudknot itself, a job could create Knots, and each image
    # would have the packages for AWS.
    own = __name__.partition(".")[0]
    names = {name for name in names if name.partition(".")[0] != own}
    skippable = {name.partition(".")[0] for name in optional}
    providers = _providers({name.partition(".")[0] for name in names} - sys.stdlib_module_names)
    lines: dict[str, str] = {}
    provided: set[str] = set()
    missing: set[str] = set()
    local: set[str] = set()
    elsewhere: dict[str, str] = {}
    for name in sorted(names):
        top = name.partition(".")[0]
        if top in linux_names.MODULES:
            elsewhere[top] = linux_names.MODULES[top]
        if top in sys.stdlib_module_names or top == "__main__":
            continue
        if package := local_modules.package_of(name):
            provided.add(top)
            local.add(package.name)
        elif owners := _owners(name, providers):
            provided.add(top)
            local |= {canonical(owner) for owner in owners} & local_distributions().keys()
            found = [pin(owner) for owner in owners if canonical(owner) not in local]
            there, lacking = linux_names.for_linux(found)
            lines.update({name_of(line): line for line in there})
            # Another package of the same import may exist on Linux.
            if lacking and not there:
                elsewhere[top] = linux_names.system_of(lacking[0])
        # A module that can be found here without a distribution is not missing. It may be local.
        elif not (top in providers or top in skippable or top in sys.modules or local_modules.find(top)):
            missing.add(top)
    translated = packages(missing)
    # A pinned line replaces an unpinned one for the same distribution.
    lines = {name: name for name in map(canonical, translated.values())} | lines
    unknown = missing - translated.keys()
    return Requirements(
        tuple(lines[key] for key in sorted(lines)),
        tuple(sorted(provided)),
        tuple(translated),
        tuple(sorted(unknown)),
        tuple(sorted(local)),
        {top: system for top, system in elsewhere.items() if top not in skippable},
    )


def with_local(requirements: Requirements, packages: Iterable[str]) -> Requirements:
    """Return requirements with all local packages that they need. The lines name these only with an address.

    Parameters
    ----------
    requirements : Requirements
    packages : iterable of str
        Canonical names of further local packages.

    Raises
    ------
    CloudknotInputError
        A line asks for another version of a local package than the one that is installed here.
    """
    from cloudknot.program.packages.distributions import local_distributions
    from cloudknot.program.packages.wheels.fetch import is_address

    installed = local_distributions()
    if not installed:
        return requirements
    # A package of the index may depend on one that is installed here from a folder.
    needed = with_dependencies({*map(name_of, requirements.lines), *packages, *requirements.local} - {""})
    local = needed & installed.keys()
    # A line with an address says where to take the package from, and needs no other.
    named = [line for line in requirements.lines if name_of(line) in local and not is_address(line)]
    for line in named:
        _refuse_other_version(line, installed[name_of(line)])
    kept = {line: None for line in requirements.lines if line not in named}
    kept |= {line: None for line in _needs_of_extras(named) if name_of(line) not in local}
    return replace(requirements, lines=tuple(kept), local=tuple(sorted(local)))


def _needs_of_extras(lines: Iterable[str]) -> Iterator[str]:
    """Yield the requirements that the extras in some lines of local packages add, as those packages declare them."""
    waiting, seen = list(lines), set()
    while waiting:
        asked = _parse(waiting.pop())
        for needed in _added_by_extras(asked) if asked else ():
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)
                yield needed


def _added_by_extras(asked: Requirement) -> Iterator[str]:
    from importlib import metadata

    from cloudknot.program.packages.distributions import local_distributions

    if canonical(asked.name) not in local_distributions():
        return
    for needed in filter(None, map(_parse, metadata.requires(asked.name) or ())):
        marker, needed.marker = needed.marker, None
        if marker is None or marker.evaluate({"extra": ""}):
            continue
        if any(marker.evaluate({"extra": extra}) for extra in asked.extras):
            yield str(needed)


def _refuse_other_version(line: str, local: LocalDistribution) -> None:
    requirement = _parse(line)
    if requirement is None or requirement.specifier.contains(local.version, prereleases=True):
        return
    # The index's package of that name may be a stranger's.
    refuse(
        problem=f"requirements= asks for {line!r}, but {local.name} {local.version} is installed here.",
        cause=f"It came from {local.address}, so jobs get that package and none of the index.",
        fix=f"Remove the version from the line, or install {line!r} here first.",
    )


def refuse_elsewhere(requirements: Requirements, program: str) -> None:
    """Raise `CloudknotInputError` for imports that only Windows or macOS has."""
    for name, system in requirements.elsewhere.items():
        refuse(
            problem=f"{program} imports {name}, which only {system} has.",
            cause="Jobs run on Linux.",
            fix=f"Remove the import, or write it as `if sys.platform != 'linux': import {name}`.",
        )


def refuse_unknown(requirements: Requirements, function: str, image_has_more: bool = False) -> None:
    """Raise `CloudknotInputError` for imports without a known package.

    With ``image_has_more``, the image gets more than the requirements, so the import may work there. Then this is a
    UserWarning.
    """
    if not requirements.unknown:
        return
    names = ", ".join(requirements.unknown)
    if image_has_more:
        streams.warn(
            f"The function {function!r} imports {names}, which is not installed here. It fails in a job unless the "
            f"base image or your additions to it provide {names}. If they do not, name the package in "
            "requirements=[...].",
        )
        return
    # The package of that name is not tried: anybody can publish one, and its code would run in the user's jobs.
    refuse(
        problem=f"The function {function!r} imports {names}, which is not installed here. It would fail in a job.",
        cause="cloudknot does not guess a package from the name of an import.",
        fix="Install the package here, correct the import, or list all packages: Knot(..., requirements=[...]).",
    )


def warn_missing(requirements: Requirements) -> None:
    """Issue a UserWarning for each import that is not installed here but is in pipreqs' table."""
    for name, package in packages(requirements.missing).items():
        streams.warn(
            f"The function imports {name}, which is not installed here. The job gets the newest {package}. If that is "
            "the wrong package, install the right one here, correct the import, or pass requirements=[...].",
        )


def _providers(names: Collection[str]) -> dict[str, list[str]]:
    """Return the installed distributions that provide each of some top-level names."""
    from importlib import metadata

    found: dict[str, list[str]] = {}
    if not names:
        return found
    # `metadata.packages_distributions` takes half of the time of an unchanged Knot, because it makes an object of each
    # installed file. Here, a search in the text of each record rules out most distributions.
    mentioned = re.compile(rf'^"?({"|".join(map(re.escape, names))})(?=[/.])', re.MULTILINE)
    for distribution in metadata.distributions():
        declared = (distribution.read_text("top_level.txt") or "").split()
        provided = set(names).intersection(declared)
        if not declared:
            record = distribution.read_text("RECORD")
            if record is None or mentioned.search(record):
                provided = set(names).intersection(map(_top_level, distribution.files or ()))
        for name in provided:
            found.setdefault(name, []).append(distribution.metadata["Name"])
    return found


def _top_level(file: PurePath) -> str | None:
    """Return the top-level name that an installed file belongs to."""
    return file.parts[0] if len(file.parts) > 1 else inspect.getmodulename(file.name)


def owners(name: str) -> list[str]:
    """Return the installed distributions that provide a module."""
    return _owners(name, _providers([name.partition(".")[0]]))


def _owners(name: str, providers: Mapping[str, list[str]]) -> list[str]:
    """Return the installed distributions that provide a module."""
    from cloudknot.program import local_modules

    candidates = list(dict.fromkeys(providers.get(name.partition(".")[0], ())))
    if len(candidates) < 2:
        return candidates
    # Several distributions share the top-level name (a namespace package), so the module's file decides.
    file = local_modules.file_of(local_modules.find(name))
    return [candidate for candidate in candidates if file and _owns(candidate, file)]


def _owns(distribution: str, file: Path) -> bool:
    from importlib import metadata

    installed = metadata.distribution(distribution)
    return any(
        part.name == file.name and Path(str(installed.locate_file(part))) == file for part in installed.files or ()
    )


def packages(names: Iterable[str]) -> dict[str, str]:
    """Return the canonical package names of imports that pipreqs' table contains, sorted by import."""
    names = sorted(names)
    if not names:
        return {}
    from pipreqs.pipreqs import get_pkg_names

    # pipreqs returns a name that is not in its table unchanged.
    translated = {name: get_pkg_names([name])[0] for name in names}
    return {name: canonical(package) for name, package in translated.items() if package != name}


def with_dependencies(names: Iterable[str]) -> set[str]:
    """Return the canonical names of some distributions and of everything that they require, as installed here.

    A name may have extras: ``"moto[server]"``.
    """
    from importlib import metadata

    found: set[str] = set()
    parsed = [(name, _parse(name)) for name in names]
    waiting = [(canonical(part.name if part else name), "") for name, part in parsed]
    waiting += [(canonical(part.name), extra) for _, part in parsed if part for extra in part.extras]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        found.add(name)
        try:
            lines = metadata.requires(name) or ()
        except (metadata.PackageNotFoundError, ValueError):
            # Not installed here, or a bare URL without a name.
            continue
        for requirement in filter(None, map(_parse, lines)):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = {(canonical(requirement.name), part) for part in ("", *requirement.extras)}
                waiting += needed - seen
                seen |= needed
    return found


def pin(distribution: str) -> str:
    """Return the requirement line that installs a distribution of an index in the version installed here."""
    from importlib import metadata

    installed = metadata.distribution(distribution)
    # A local version label (2.1.0+cu121) is dropped. Package indexes hold public versions only, and the right build
    # depends on the image.
    return f"{canonical(installed.metadata['Name'])}=={installed.version.partition('+')[0]}"
