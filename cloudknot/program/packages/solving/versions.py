"""Choose the versions of packages: those installed here, or the nearest ones that have a file for the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.packages.solving.failures import Kind, UnsolvedError
from cloudknot.program.packages.solving.lines import loosened, name_of
from cloudknot.program.packages.solving.request import LockRequest, Replacement, Tool, ToolOptions

# Other failures, such as a refused login, stay the same with other versions.
_OF_VERSIONS = {Kind.NOT_FOUND, Kind.PYTHON, Kind.NO_WHEEL, Kind.CONFLICT, Kind.OTHER}
_OF_FILES = {Kind.NO_WHEEL, Kind.NOT_FOUND, Kind.CONFLICT, Kind.OTHER}


class Versions:
    """The choice of versions for one request."""

    def __init__(self, tool: Tool, request: LockRequest, here: Mapping[str, str]) -> None:
        self._tool = tool
        self._request = request
        self._here = dict(here)
        self._loose = tuple(loosened(line, request.preferred, here) for line in request.lines)
        self._archives = False
        self._binary: frozenset[str] = frozenset()

    def choose(self) -> tuple[list[LockedPackage], list[Replacement]]:
        """Return the packages, and those that are not in the version installed here because none would fit.

        Raises
        ------
        UnsolvedError
            There is no solution, or the index cannot be used.
        """
        try:
            # Nearly always one call of the tool is enough.
            packages = self._compile(self._request.lines, self._here)
        except UnsolvedError as failure:
            packages = self._loosely(failure)
        moved = [package for package in packages if self._is_moved(package)]
        if elsewhere := self._elsewhere(moved):
            packages = self._from_any_index(packages, elsewhere)
            moved = [package for package in packages if self._is_moved(package)]
        replaced = [self._replacement(package) for package in moved]
        nearest = {new.name: new.chosen for new in replaced if not new.has_file}
        if any(nearest.get(package.name, package.version) != package.version for package in packages):
            packages = self._compile(self._loose, {**self._here, **nearest})
        return packages, list(self._worth_a_line(packages, replaced))

    def _compile(self, lines: tuple[str, ...], preferences: Mapping[str, str]) -> list[LockedPackage]:
        return self._tool.compile(lines, self._request, ToolOptions(preferences, self._archives, self._binary))

    def _loosely(self, failure: UnsolvedError) -> list[LockedPackage]:
        """Return the packages without the installed versions as requirements; else with source archives."""
        if failure.kind not in _OF_VERSIONS:
            raise failure
        if self._loose != self._request.lines:
            try:
                return self._compile(self._loose, self._here)
            except UnsolvedError as error:
                if error.kind not in _OF_VERSIONS:
                    raise
                failure = error
        if failure.kind not in _OF_FILES:
            raise failure
        return self._with_sources(failure)

    def _with_sources(self, failure: UnsolvedError) -> list[LockedPackage]:
        """Return the packages, with source archives only for those that have no wheel in any version."""
        self._archives = True
        try:
            packages = self._compile(self._loose, self._here)
        except UnsolvedError as error:
            # Source archives were no help, unless one of them failed to build.
            raise (error if error.kind is Kind.BUILD else failure) from error
        archives = {package.name for package in packages if not package.is_wheel}
        with_wheels = {name for name in archives if self._one(name)}
        if not with_wheels:
            return packages
        self._binary = frozenset({package.name for package in packages} - archives | with_wheels)
        return self._compile(self._loose, self._here)

    def _is_moved(self, package: LockedPackage) -> bool:
        installed = self._here.get(package.name)
        return installed is not None and package.version.partition("+")[0] != installed

    def _elsewhere(self, moved: Iterable[LockedPackage]) -> dict[str, str]:
        """Return the packages whose installed version is not in the first index that has them, but in another one."""
        if not self._request.indexes.extra:
            return {}
        lines = {package.name: f"{package.name}=={self._here[package.name]}" for package in moved}
        return {
            name: self._here[name]
            for name, line in lines.items()
            if not self._one(line) and self._one(line, any_index=True)
        }

    def _from_any_index(self, packages: list[LockedPackage], elsewhere: Mapping[str, str]) -> list[LockedPackage]:
        """Return the packages with some in the version installed here, which may come from another index.

        pip takes a version from any index, and so these were installed. All other packages stay as they are, because
        a stranger may have published something newer under their names.
        """
        versions = {**{package.name: package.version for package in packages}, **elsewhere}
        pins = tuple(f"--constraint {name}=={version}" for name, version in versions.items())
        choices = ToolOptions(self._here, self._archives, self._binary, any_index=True)
        try:
            return self._tool.compile((*self._loose, *pins), self._request, choices)
        except UnsolvedError:
            return packages

    def _replacement(self, package: LockedPackage) -> Replacement:
        installed = self._here[package.name]
        if self._one(f"{package.name}=={installed}"):
            return Replacement(package.name, installed, package.version, True)
        candidates = [
            self._one(f"{package.name}<={installed}"),
            self._one(f"{package.name}>={installed}", lowest=True),
        ]
        chosen = nearest(installed, [found for found in candidates if found])
        return Replacement(package.name, installed, chosen or package.version, False)

    def _one(self, line: str, *, lowest: bool = False, any_index: bool = False) -> str | None:
        """Return the version of the wheel that a line gives for the target, if there is one."""
        choices = ToolOptions({}, alone=True, lowest=lowest, any_index=any_index)
        try:
            # Without the user's constraints, which would hide a version that exists.
            found = self._tool.compile((line,), self._request, choices)
        except UnsolvedError as error:
            if error.kind not in {*_OF_VERSIONS, Kind.BUILD}:
                raise
            return None
        return next((package.version for package in found if package.name == name_of(line)), None)

    def _worth_a_line(
        self, packages: Iterable[LockedPackage], replaced: Iterable[Replacement]
    ) -> Iterable[Replacement]:
        """Yield the replacements that a person did not ask for."""
        final = {package.name: package for package in packages}
        for new in replaced:
            package = final.get(new.name)
            if package and self._is_moved(package) and (not new.has_file or new.name in self._pinned_names()):
                yield Replacement(new.name, new.installed, package.version, new.has_file)

    def _pinned_names(self) -> set[str]:
        pairs = zip(self._request.lines, self._loose, strict=True)
        return {name_of(line) for line, loose in pairs if line != loose}


def nearest(version: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate nearest to a version; None without candidates.

    It has the most leading numbers in common. Of two such, the newer one, since libraries keep old names for a while.
    """
    from packaging.version import Version

    wanted = Version(version).release

    def closeness(candidate: str) -> tuple[int, Version]:
        pairs = list(zip(wanted, Version(candidate).release, strict=False))
        common = next((position for position, (a, b) in enumerate(pairs) if a != b), len(pairs))
        return common, Version(candidate)

    return max(candidates, key=closeness, default=None)
