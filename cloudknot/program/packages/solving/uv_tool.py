"""Resolve requirement lines with uv."""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cloudknot.program.packages import indexes, uv
from cloudknot.program.packages.lock import LockedPackage
from cloudknot.program.packages.solving.failures import Kind, UnsolvedError, unsolved
from cloudknot.program.packages.solving.lines import constraints_in, hashes_in, without_hashes
from cloudknot.program.packages.solving.request import LockRequest, ToolOptions
from cloudknot.program.packages.target import InstallTarget


class UvTool:
    """uv as a `Tool`."""

    name = "uv"

    def compile(self, lines: tuple[str, ...], request: LockRequest, choices: ToolOptions) -> list[LockedPackage]:
        """Return the packages for some lines of a request. See `Tool`."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            source, output, limits = folder / "requirements.in", folder / "pylock.toml", folder / "constraints.txt"
            limits.write_text("".join(f"{line}\n" for line in constraints_in(lines)), encoding="utf-8")
            source.write_text("".join(f"{line}\n" for line in _written(lines, request, folder)), encoding="utf-8")
            # uv keeps the versions of an existing output where it can. It refuses one without packages.
            if choices.preferences:
                output.write_text(_preferences(choices.preferences), encoding="utf-8")
            command = ["pip", "compile", str(source), "-c", str(limits), "-o", str(output)]
            _run([*command, *_options(request, choices)], request, name)
            content = tomllib.loads(output.read_text(encoding="utf-8"))
        local = {wheel.name for wheel in request.wheels}
        items = [item for item in content.get("packages", ()) if item["name"] not in local]
        hashes = hashes_in(lines)
        return [_package(item, request.target, hashes.get(item["name"], frozenset())) for item in items]


def _run(command: list[str], request: LockRequest, folder: str) -> None:
    """Run uv. Without a network it uses the pages of its cache.

    Raises
    ------
    UnsolvedError
        uv found no solution.
    """
    environment = request.indexes.environment()
    if request.target.here:
        # On this machine, copies of installed packages replace an index that does not answer. Waiting is no use.
        environment.setdefault("UV_HTTP_RETRIES", os.environ.get("UV_HTTP_RETRIES", "1"))
    answer = uv.run(command, environment=environment)
    if answer.returncode:
        error = unsolved(indexes.redacted(answer.stderr, request.indexes).replace(folder, ""))
        if error.kind is not Kind.OFFLINE or uv.run([*command, "--offline"], environment=environment).returncode:
            raise error


def _written(lines: tuple[str, ...], request: LockRequest, folder: Path) -> Iterator[str]:
    """Yield the lines of the file that uv reads: the requirements, and the local wheels, which it also writes."""
    # The indexes are variables, because they may contain logins.
    yield from (without_hashes(line) for line in lines if not line.startswith("-"))
    for wheel in request.wheels:
        (folder / wheel.filename).write_bytes(wheel.content)
        yield f"{wheel.name} @ {(folder / wheel.filename).as_uri()}"


def _preferences(versions: Mapping[str, str]) -> str:
    lines = ['lock-version = "1.0"', 'created-by = "cloudknot"']
    for name, version in sorted(versions.items()):
        lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"', "wheels = []"]
    return "".join(f"{line}\n" for line in lines)


def _options(request: LockRequest, choices: ToolOptions) -> list[str]:
    target = request.target
    options = [
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--python",
        sys.executable,
        "--python-version",
        target.python,
    ]
    options += ["--python-platform", target.tag] if target.tag else []
    options += ["--no-index"] if request.indexes.no_index else []
    options += ["--prerelease", "allow"] if "--pre" in request.lines else []
    options += ["--refresh"] if request.refresh else []
    options += ["--no-deps"] if choices.alone else []
    options += ["--resolution", "lowest"] if choices.lowest else []
    options += ["--index-strategy", "unsafe-best-match"] if choices.any_index else []
    # uv has no exceptions from ":all:", so each package that must be a wheel is named.
    binary = sorted(choices.binary) if choices.archives else [":all:"]
    return [*options, *(part for name in binary for part in ("--only-binary", name))]


def _package(item: dict[str, Any], target: InstallTarget, hashes: Collection[str]) -> LockedPackage:
    """Return a package with the file that fits the target best, among those with one of the user's hashes."""
    files = [file for file in (*item.get("wheels", ()), item.get("archive"), item.get("sdist")) if file]
    if not files:
        origin = item.get("vcs", item.get("directory", {}))
        raise unsolved(f"{item['name']} comes from {origin.get('url') or origin.get('path')}, and not from an index")
    named = [(_filename(file), file) for file in files if not hashes or file["hashes"].get("sha256") in hashes]
    if not named:
        raise UnsolvedError(Kind.HASH, f"{item['name']} {item['version']}: no file has one of the required hashes")
    order = {tag: position for position, tag in enumerate(target.wheel_tags())}
    filename, file = min(named, key=lambda pair: _rank(pair[0], order))
    address = file["url"] if "url" in file else Path(file["path"]).absolute().as_uri()
    return LockedPackage(
        item["name"],
        item["version"],
        filename,
        file.get("hashes", {}).get("sha256", ""),
        indexes.without_login(address),
        file.get("size", 0),
    )


def _filename(file: dict[str, Any]) -> str:
    return file.get("name") or unquote(urlsplit(file.get("url") or file["path"]).path.rpartition("/")[2])


def _rank(filename: str, order: Mapping[str, int]) -> int:
    """Return how well a file fits: the position of the best of its tags. A source archive comes last."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if not filename.endswith(".whl"):
        return len(order) + 1
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return len(order)
    return min((order[str(tag)] for tag in tags if str(tag) in order), default=len(order))
