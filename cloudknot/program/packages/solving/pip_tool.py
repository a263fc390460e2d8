"""Resolve requirement lines with pip, where uv is missing.

pip knows no preferences. They are constraints here, and those that pip reports as a conflict are taken out. Other
limits of pip remain: it takes a package from any index, and it reads the markers of requirements for this machine.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cloudknot.program.packages import indexes, pip
from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.packages.solving.failures import Kind, UnsolvedError, unsolved
from cloudknot.program.packages.solving.lines import constraints_in, hashes_in, parse, without_hashes
from cloudknot.program.packages.solving.request import LockRequest, ToolOptions
from cloudknot.program.packages.target import InstallTarget

ROUNDS = 30
"""Calls of pip until all preferences are dropped."""
_NO_VERSION = "0.dev0+cloudknot"
"""A version that no package has. pip answers with all versions that have a file for the target."""


class PipTool:
    """pip as a `Tool`."""

    name = "pip"

    def compile(self, lines: tuple[str, ...], request: LockRequest, choices: ToolOptions) -> list[LockedPackage]:
        """Return the packages for some lines of a request. See `Tool`."""
        if choices.lowest:
            lines = self._lowest(lines, request)
        preferences = dict(choices.preferences)
        for _ in range(ROUNDS):
            try:
                return _compile(lines, request, choices, preferences)
            except UnsolvedError as error:
                mentioned = {name for name in preferences if _mentions(error.text, name)}
                if not mentioned:
                    raise
                preferences = {name: version for name, version in preferences.items() if name not in mentioned}
        return _compile(lines, request, choices, {})

    def _lowest(self, lines: tuple[str, ...], request: LockRequest) -> tuple[str, ...]:
        """Return the lines with the lowest version in place of the last one's specifier."""
        from packaging.version import Version

        *options, line = lines
        requirement = parse(line)
        assert requirement is not None
        try:
            _compile((*options, f"{requirement.name}=={_NO_VERSION}"), request, ToolOptions({}, alone=True), {})
        except UnsolvedError as error:
            match = re.search(r"from versions: ([^)]*)\)", error.text)
            found = match[1].split(", ") if match else []
            fitting = [version for version in found if version != "none" and requirement.specifier.contains(version)]
            if fitting:
                return (*options, f"{requirement.name}=={min(fitting, key=Version)}")
            raise
        return lines


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name).replace('-', '[-_.]')}(?![\w-])", text, re.IGNORECASE) is not None


def _compile(
    lines: tuple[str, ...], request: LockRequest, choices: ToolOptions, preferences: Mapping[str, str]
) -> list[LockedPackage]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source, limits, report = folder / "requirements.txt", folder / "constraints.txt", folder / "report.json"
        wanted = [without_hashes(line) for line in lines if not line.startswith("-")]
        for wheel in request.wheels:
            (folder / wheel.filename).write_bytes(wheel.content)
            wanted.append(f"{wheel.name} @ {(folder / wheel.filename).as_uri()}")
        source.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
        pins = [f"{name}=={version}" for name, version in preferences.items()]
        limits.write_text("".join(f"{line}\n" for line in (*constraints_in(lines), *pins)), encoding="utf-8")
        command = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        # pip takes another platform only with a target, although a dry run installs nothing.
        command += [
            *_options(request, choices),
            "--target",
            str(folder / "none"),
            "-c",
            str(limits),
            "-r",
            str(source),
        ]
        answer = pip.run(command, request.indexes)
        if answer.returncode:
            raise unsolved(indexes.redacted(answer.stderr, request.indexes).replace(name, ""))
        content = json.loads(report.read_text(encoding="utf-8"))
    local, hashes = {wheel.name for wheel in request.wheels}, hashes_in(lines)
    packages = [package for package in map(_package, content["install"]) if package.name not in local]
    for package in packages:
        if package.sha256 not in hashes.get(package.name, {package.sha256}):
            raise UnsolvedError(Kind.HASH, f"{package.filename} has none of the required hashes")
    return packages


def _options(request: LockRequest, choices: ToolOptions) -> list[str]:
    target = request.target
    options = ["--no-deps"] if choices.alone else []
    options += ["--pre"] if "--pre" in request.lines else []
    if choices.archives:
        # pip builds an archive to read its requirements, so it can do so only for the machine that it runs on.
        here = InstallTarget.this_machine()
        if (target.platform, target.python) != (here.platform, here.python):
            raise UnsolvedError(Kind.NO_WHEEL, f"pip resolves source archives only for {here}. Install uv.")
        return [*options, *(part for name in sorted(choices.binary) for part in ("--only-binary", name))]
    options += ["--only-binary", ":all:"]
    if not target.platform:
        return options
    version = target.python.replace(".", "")
    options += ["--implementation", "cp", "--python-version", target.python]
    options += [part for abi in (f"cp{version}", "abi3", "none") for part in ("--abi", abi)]
    return [*options, *(part for platform in target.platforms() for part in ("--platform", platform))]


def _package(item: dict[str, Any]) -> LockedPackage:
    from packaging.utils import canonicalize_name

    place, about = item["download_info"], item["metadata"]
    address = indexes.without_login(place["url"])
    archive = place.get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
    filename = unquote(urlsplit(address).path.rpartition("/")[2])
    return LockedPackage(canonicalize_name(about["name"]), about["version"], filename, digest, address)
