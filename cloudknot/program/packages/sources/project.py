"""Read the dependencies of a ``pyproject.toml``, with extras, dependency groups and uv's sources."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program.packages.solving.lines import name_of, parse
from cloudknot.program.packages.sources.pip_lines import LineOrigin, checked, text_of


def read(path: Path, extras: tuple[str, ...]) -> list[str]:
    """Return the requirement lines of a project and of some of its extras and groups."""
    table = table_of(path)
    project = table.get("project", {})
    if "dependencies" not in project and not extras:
        refuse(
            problem=f"{path} has no [project] dependencies.",
            cause="Perhaps a tool such as Poetry or setuptools keeps them elsewhere.",
            fix="Write them into a requirements.txt, for example with `poetry export`, and pass that file.",
        )
    check_python(str(project.get("requires-python", "")), path)
    lines = [*project.get("dependencies", ())]
    lines += [line for extra in extras for line in _extra(table, extra, path)]
    sources = table.get("tool", {}).get("uv", {}).get("sources", {})
    indexes = {index.get("name"): index["url"] for index in table.get("tool", {}).get("uv", {}).get("index", ())}
    origin = LineOrigin(path.absolute().parent)
    return [
        found for line in lines for text in _sourced(line, sources, indexes, path) for found in checked(text, origin)
    ]


def table_of(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file that the user named."""
    text = text_of(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CloudknotInputError(f"{path} is not a valid TOML file: {error}. Correct it.") from error


def check_python(specifier: str, path: Path) -> None:
    """Refuse a file for another Python than that of this session, which is also that of the jobs."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    here = ".".join(map(str, sys.version_info[:3]))
    try:
        fits = SpecifierSet(specifier).contains(here, prereleases=True)
    except InvalidSpecifier:
        fits = True
    if not fits:
        refuse(
            problem=f"{path} requires Python {specifier}, and this session has Python {here}.",
            cause="Jobs have the Python of the session.",
            fix="Start the session with another Python, or correct the file.",
        )


def _extra(table: Mapping[str, Any], extra: str, path: Path) -> list[str]:
    optional = table.get("project", {}).get("optional-dependencies", {})
    groups = table.get("dependency-groups", {})
    if extra in optional:
        return list(optional[extra])
    if extra in groups:
        return list(_group(groups, extra))
    refuse(
        problem=f"{path} has no extra or group {extra!r}.",
        fix=f"Choose one of these: {', '.join(sorted({*optional, *groups})) or 'none'}.",
    )


def _group(groups: Mapping[str, Any], name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    for entry in groups.get(name, ()):
        if isinstance(entry, str):
            yield entry
        elif (included := entry.get("include-group", "")) not in seen:
            yield from _group(groups, included, seen | {name})


def _sourced(line: str, sources: Mapping[str, Any], indexes: Mapping[str, str], path: Path) -> list[str]:
    """Return a dependency with its source in uv's settings: an index must never be asked for such a name."""
    source = next((value for name, value in sources.items() if name_of(name) == name_of(line)), None)
    requirement = parse(line)
    if source is None or requirement is None:
        return [line]
    extras = ",".join(sorted(requirement.extras))
    name = f"{requirement.name}[{extras}]" if extras else requirement.name
    if isinstance(source, dict):
        if "git" in source:
            revision = next((f"@{source[key]}" for key in ("rev", "tag", "branch") if key in source), "")
            return [f"{name} @ git+{source['git'].removeprefix('git+')}{revision}"]
        if "path" in source:
            return [f"{name} @ {(path.absolute().parent / source['path']).resolve().as_uri()}"]
        if "url" in source:
            return [f"{name} @ {source['url']}"]
        if source.get("index") in indexes:
            return [f"--extra-index-url {indexes[source['index']]}", line]
    refuse(
        problem=f"{path}: cloudknot does not understand the source of {requirement.name} in [tool.uv.sources].",
        fix="Pass requirements='uv.lock' in place of it.",
    )
