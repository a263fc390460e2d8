"""Read conda's ``environment.yml``: its pip part, and the packages of conda that are Python packages here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cloudknot.errors import CloudknotInputError, refuse
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
    import yaml

    try:
        root = yaml.compose(text_of(path), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CloudknotInputError(f"{path} is not a valid YAML file: {error}. Correct it.") from error
    # Nodes in place of values, because they know their lines.
    for node in _values_of(root, "dependencies"):
        if isinstance(node, yaml.ScalarNode):
            yield node.start_mark.line + 1, node.value, False
        for part in _values_of(node, "pip"):
            yield part.start_mark.line + 1, str(part.value), True


def _values_of(node: Any, key: str) -> Sequence[Any]:
    """Return the nodes of the list under a key of a mapping; none for another node."""
    pairs = node.value if getattr(node, "id", "") == "mapping" else ()
    lists = (value.value for name, value in pairs if name.value == key and value.id == "sequence")
    return next(lists, ())


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
        fix="Write for example `- numpy=2.1`.",
    )
