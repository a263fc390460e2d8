"""Read conda's ``environment.yml``: its pip part, and the packages of conda that are Python packages here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NoReturn

from cloudknot.errors import refuse
from cloudknot.program.packages.solving import installed
from cloudknot.program.packages.sources.pip_lines import LineOrigin, checked, text_of

_SPEC = re.compile(r"(?:[\w./-]+::)?(?P<name>[\w.-]+)\s*(?P<version>[=<>!~].*)?")
# The image has them already.
_OWN = {"pip", "setuptools", "wheel"}


def read(path: Path, apt_packages: Collection[str]) -> list[str]:
    """Return the requirement lines of an ``environment.yml``."""
    here = installed.versions()
    lines: list[str] = []
    for number, text, is_pip in _entries(path):
        origin = LineOrigin(path.absolute().parent, str(path), number)
        if is_pip:
            lines += checked(text, origin)
        else:
            lines += _conda_line(text, origin, here.keys(), apt_packages)
    return lines


def _entries(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield the dependencies, each with the number of its line and whether it is in the pip part."""
    # Such files are lists of plain words, so cloudknot needs no library for YAML.
    section, is_pip, depth = "", False, 0
    for number, raw in enumerate(text_of(path).splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        stripped = line.strip()
        if not stripped:
            continue
        indent = len(line) - len(line.lstrip())
        if not stripped.startswith("- "):
            if indent == 0:
                section, _, value = stripped.partition(":")
                if section == "dependencies" and value.strip():
                    _refuse_entry(f"{path}, line {number}", stripped)
                is_pip = False
            continue
        if section != "dependencies":
            continue
        entry = stripped.removeprefix("- ").strip().strip("'\"")
        if is_pip and indent <= depth:
            is_pip = False
        if entry == "pip:":
            is_pip, depth = True, indent
        else:
            yield number, entry, is_pip


def _conda_line(text: str, origin: LineOrigin, here: Collection[str], apt_packages: Collection[str]) -> list[str]:
    match = _SPEC.fullmatch(text)
    if match is None:
        _refuse_entry(str(origin), text)
    name = re.sub(r"[-_.]+", "-", match["name"]).lower()
    version = _pip_version(match["version"] or "")
    if name == "python":
        _check_python(version, origin)
        return []
    if name in _OWN or name in apt_packages:
        return []
    # A package of conda may have the name of a stranger's package in pip's index.
    if name not in here:
        refuse(
            problem=f"{origin}: {match['name']} is not installed here as a Python package, so only conda may have it.",
            fix="Install it here, list it in the file under `- pip:`, or, if it is no Python package, pass "
            f"apt_packages={match['name']!r}.",
        )
    return [f"{name}{version}"]


def _pip_version(version: str) -> str:
    """Return conda's version in pip's form: ``=1.26`` is ``==1.26.*``. The build after a second ``=`` is dropped."""
    exact = re.fullmatch(r"(={1,2})\s*([^=<>!~,|\s]+)(?:[=\s].*)?", version.strip())
    if not exact:
        return version.replace(" ", "")
    number = exact[2].removesuffix(".*").removesuffix("*")
    has_build = version.strip().count("=") > len(exact[1])
    return f"=={number}" if len(exact[1]) == 2 or has_build else f"=={number}.*"


def _check_python(version: str, origin: LineOrigin) -> None:
    from cloudknot.program.packages.sources.project import check_python

    # ==3.11 means any 3.11 in an environment.yml.
    check_python(re.sub(r"^==(\d+\.\d+)$", r"==\1.*", version), Path(origin.file))


def _refuse_entry(place: str, text: str) -> NoReturn:
    refuse(
        problem=f"{place}: {text!r} is not a dependency that cloudknot understands.",
        fix="Write each dependency in a line of its own, for example `- numpy=2.1`.",
    )
