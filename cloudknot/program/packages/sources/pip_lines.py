"""Read requirements files in pip's format: includes, constraints, indexes, local paths, hashes, continuation lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cloudknot.errors import CloudknotInputError, refuse
from cloudknot.program.files.text import decoded
from cloudknot.program.packages.indexes import remember_login, split_option
from cloudknot.program.packages.solving import installed
from cloudknot.program.packages.solving.lines import name_of, parse

_COMMENT = re.compile(r"(^|\s+)#.*$")
_ADDRESS = re.compile(r"(\w+\+)?(https?|ssh|git|file)://\S+")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_FILE_NAME = re.compile(r"\S+\.(txt|toml|lock|yml)", re.IGNORECASE)
_LOCAL = re.compile(r"(?P<path>[^\[\]]+)(?:\[(?P<extras>[\w.,\s-]*)\])?")
# They are true of every lock, or they change nothing in its result.
_WITHOUT_EFFECT = {"--require-hashes", "--prefer-binary", "--only-binary", "--use-feature"}
_KEPT = {"--no-index", "--pre"}
_INDEXES = {"-i": "--index-url", "-f": "--find-links", "--index-url": "", "--extra-index-url": "", "--find-links": ""}


@dataclass(frozen=True)
class LineOrigin:
    """The place of a requirement line: a folder, and where known the file and the number of the line."""

    folder: Path
    file: str = ""
    number: int = 0
    constraint: bool = False

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}" if self.file else "requirements="


def read(path: Path, *, constraint: bool = False, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """Yield the requirement lines of a file and of the files that it includes. See `cloudknot...sources.read.read`."""
    real = path.resolve()
    if real in seen:
        return
    for number, text in _joined(text_of(path)):
        origin = LineOrigin(real.parent, str(path), number, constraint)
        yield from checked(text, origin, seen | {real})


def text_of(path: Path) -> str:
    """Return the text of a file that the user named.

    Raises
    ------
    CloudknotInputError
        The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CloudknotInputError(
            f"The requirements file cannot be read: {error}. Check its path and permissions."
        ) from error
    return decoded(content)


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, and a line that ends in a backslash together with the next."""
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        start = number - len(parts)
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            parts.append(line.removesuffix("\\"))
            continue
        yield start, "".join([*parts, line])
        parts = []
    if parts:
        yield len(text.splitlines()) - len(parts) + 1, "".join(parts)


def checked(text: object, origin: LineOrigin, seen: frozenset[Path] = frozenset()) -> Iterator[str]:
    """Yield the requirement lines for one line of the user: none for a comment, several for an included file.

    Raises
    ------
    CloudknotInputError
        It is not a requirement.
    """
    if not isinstance(text, str):
        refuse(
            problem=f"requirements= contains {text!r}, a value of type {type(text).__name__}.",
            fix="Write each requirement as a string such as 'numpy>=2'.",
        )
    line = _COMMENT.sub("", text).strip()
    if not line:
        return
    if line.startswith("-"):
        yield from _option(line, origin, seen)
        return
    found = _requirement(line, origin)
    yield f"--constraint {found}" if origin.constraint else found


def _option(line: str, origin: LineOrigin, seen: frozenset[Path]) -> Iterator[str]:
    option, value = split_option(line)
    if option in _INDEXES:
        yield f"{_INDEXES[option] or option} {_index(_expanded(value, origin), origin)}"
    elif option in ("-r", "--requirement", "-c", "--constraint"):
        yield from _included(option, value, origin, seen)
    elif option in ("-e", "--editable"):
        yield _requirement(value, origin)
    elif option == "--trusted-host":
        yield f"--trusted-host {value}"
    elif option in _KEPT:
        yield option
    elif option not in _WITHOUT_EFFECT:
        refuse(
            problem=f"{origin}: cloudknot does not know the option {line!r}.",
            fix="Remove it, or set it in the settings of pip or uv.",
        )


def _included(option: str, value: str, origin: LineOrigin, seen: frozenset[Path]) -> Iterator[str]:
    path, constraint = origin.folder / Path(value).expanduser(), option in ("-c", "--constraint")
    if constraint and not path.is_file() and parse(value):
        yield f"--constraint {value}"
    else:
        yield from read(path, constraint=constraint or origin.constraint, seen=seen)


def _index(address: str, origin: LineOrigin) -> str:
    """Return the address of an index without its login, which stays in this process; or an absolute path."""
    if "://" in address:
        return remember_login(address)
    beside = origin.folder / Path(address).expanduser()
    return str(beside.absolute())


def _expanded(text: str, origin: LineOrigin) -> str:
    """Return a text with the values of its ``${VARIABLES}``, as pip does."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            refuse(
                problem=f"{origin}: the environment variable {match[1]} is not set.",
                fix=f"Set it, for example in the shell: export {match[1]}=...",
            )
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def _requirement(line: str, origin: LineOrigin) -> str:
    """Return a requirement line: a name, an address, or a local path in the form of an address."""
    if "\n" in line:
        _refuse_line(line, origin)
    requirement = parse(line)
    if requirement is not None:
        if _FILE_NAME.fullmatch(line):
            # Anybody can give a package of the index such a name, to run code where a file was meant.
            _refuse_file(line, origin)
        if re.search(r"\s--(?!hash\b)", line):
            _refuse_line(line, origin)
        if requirement.url:
            _check_address(requirement.url, line, origin)
        return re.sub(r"\s+", " ", line)
    if _ADDRESS.fullmatch(line):
        _check_address(line, line, origin)
        return line
    match = _LOCAL.fullmatch(line)
    path = origin.folder / Path(match["path"].strip()).expanduser() if match else None
    if match is None or path is None or not (path.exists() and ("/" in line or "." in line or os.sep in line)):
        _refuse_line(line, origin)
    return _local(path.resolve(), match["extras"])


def _refuse_file(line: str, origin: LineOrigin) -> NoReturn:
    place = f"{line!r} in requirements=" if not origin.file else f"{origin}: {line!r}"
    refuse(
        problem=f"{place} is the name of a file, not of a package.",
        cause=""
        if Path(origin.folder, line).is_file()
        else f"The folder {origin.folder.absolute()} has no such file.",
        fix=f"Pass the path of the file alone, or the line '-r {line}'.",
    )


def _refuse_line(line: str, origin: LineOrigin) -> NoReturn:
    place = f"{line!r} in requirements=" if not origin.file else f"{origin}: {line!r}"
    refuse(
        problem=f"{place} is not a pip requirement.",
        fix="Write for example 'numpy==2.1.0' or 'git+https://github.com/org/repo'.",
    )


def _local(path: Path, extras: str | None) -> str:
    """Return the line for a package in a local folder or file: ``name @ file:///path``, without a name if unknown."""
    import tomllib

    try:
        table = tomllib.loads(decoded((path / "pyproject.toml").read_bytes()))
        name = str(table["project"]["name"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return path.as_uri()
    return f"{name}{f'[{extras}]' if extras else ''} @ {path.as_uri()}"


def _check_address(address: str, line: str, origin: LineOrigin) -> None:
    """Refuse an address of a missing file, or one with a password, which would be in the image with the line."""
    if address.startswith("file:") and not Path(url2pathname(urlsplit(address).path)).exists():
        name = name_of(line)
        version = installed.versions().get(name)
        refuse(
            problem=f"{origin}: {address} does not exist on this machine.",
            cause="Perhaps pip or conda wrote the line from a folder that they deleted after a build.",
            fix=f"Replace the line, for example by '{name or 'NAME'}=={version or '1.0'}'.",
        )
    if urlsplit(address).password and not _VARIABLE.search(address):
        shown = re.sub(r"//[^/@]+@", "//...@", line)
        refuse(
            problem=f"{origin}: {shown!r} contains a password.",
            cause="Requirement lines are part of the image.",
            fix="Write the address without it, and put the login into ~/.netrc or git's credential helper.",
        )
