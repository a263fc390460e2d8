"""Context: what is in a build context, and its two parts. Pure: the Dockerfile is text here, nothing is built.

::

    Dockerfile              two stages: the environment, and the program on top of it
    requirements.txt
    program/                function.pkl, function.py, program.json, modules/: the user's program
    cloudknot_worker/       the worker

The environment is everything above the last ``FROM ${ENVIRONMENT}`` and every file that is not the program's. A person
who runs ``docker build .`` gets both stages; `cloudknot.image.builder` builds each by itself, so that an
environment in the registry is not built again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import NotRequired, TypedDict

DOCKERFILE = "Dockerfile"
REQUIREMENTS = "requirements.txt"
PICKLE = "program/function.pkl"
SOURCE = "program/function.py"
ABOUT = "program/program.json"
MODULES = "program/modules/"
GENERATED = ("program/", "cloudknot_worker/")
"""Folders whose files are the program's, not the environment's."""

_PROGRAM_STAGE = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?\$\{?ENVIRONMENT\}?\s*$", re.MULTILINE)
_CHANGES = re.compile(r"^\s*(ADD|ENV|RUN|SHELL)\s", re.MULTILINE | re.IGNORECASE)
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)?(\S+)", re.MULTILINE | re.IGNORECASE)

_SAYS = "cloudknot: this image has Python "
_CHECK = "import sys; v = '%d.%d' % sys.version_info[:2]; sys.exit(v != '{python}' and '" + _SAYS + "' + v)"


def python_check(python: str) -> str:
    """Python code that ends well in that minor version of Python only; older than 3 it may be too."""
    return _CHECK.format(python=python)


def is_python_check(instruction: str) -> bool:
    """Whether a Dockerfile's instruction is there to check the version of Python."""
    return _SAYS in instruction


def python_found(log: str) -> str | None:
    """The version that `python_check` complained of; None when there was no Python to run it."""
    found = re.search(rf"^{_SAYS}(\d+\.\d+)", log, re.MULTILINE)
    return found[1] if found else None


def environment_of(files: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """The context that the environment alone is built from; None where the Dockerfile does not tell it apart."""
    head, tail = _halves(files)
    if tail is None:
        return None
    others = {path: data for path, data in files.items() if not path.startswith(GENERATED)}
    return {**others, DOCKERFILE: head.encode()}


def program_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The context that the program is built from, on the environment that the build argument ENVIRONMENT names."""
    tail = _halves(files)[1]
    assert tail is not None
    return {**files, DOCKERFILE: f"ARG ENVIRONMENT\n{tail}".encode()}


def changes_environment(files: Mapping[str, bytes]) -> bool:
    """Whether the program's stage does more than copy, so that it may bring another Python."""
    return bool(_CHANGES.search(_halves(files)[1] or ""))


def _halves(files: Mapping[str, bytes]) -> tuple[str, str | None]:
    text = files.get(DOCKERFILE, b"").decode("utf-8", "replace")
    stages = list(_PROGRAM_STAGE.finditer(text))
    if not stages:
        return text, None
    head, tail = text[: stages[-1].start()], text[stages[-1].start() :]
    alone = len(_FROM.findall(tail)) == 1 and _FROM.search(head) and "--from=" not in tail
    return (head, tail) if alone else (text, None)


def base_of(files: Mapping[str, bytes]) -> str:
    """The image that the first stage is built on."""
    found = _FROM.search(files.get(DOCKERFILE, b"").decode("utf-8", "replace"))
    return found[1] if found else ""


class AboutProgram(TypedDict):
    """The content of ``program.json``."""

    function: str
    python: str
    cloudpickle: str
    filename: str
    firstlineno: int
    digest: str
    script: NotRequired[str]
    needs_engine: NotRequired[str]


def about(files: Mapping[str, bytes]) -> AboutProgram:
    """Return the content of ``program.json``."""
    found: AboutProgram = json.loads(files[ABOUT])
    return found


def environment_digest(files: Mapping[str, bytes], platform: str, executables: Collection[str] = ()) -> str:
    """SHA-256 in hexadecimal of what the environment is made from."""
    return _digest(platform, environment_of(files) or files, {}, executables)


def content_tag(files: Mapping[str, bytes], platform: str, executables: Collection[str] = ()) -> str:
    """Digest of everything, 32 hexadecimal digits.

    The pickle's bytes and the place of the source differ between sessions: the program's own digest stands for them.
    """
    said = about(files)
    standing = f"{said['digest']} {said['cloudpickle']}".encode()
    return _digest(platform, files, {PICKLE: standing, ABOUT: standing}, executables)[:32]


def _digest(
    platform: str, files: Mapping[str, bytes], standing: Mapping[str, bytes], executables: Collection[str]
) -> str:
    parts = [
        (path, hashlib.sha256(standing.get(path, data)).hexdigest() + ("x" if path in executables else ""))
        for path, data in sorted(files.items())
    ]
    return hashlib.sha256(json.dumps([platform, parts]).encode()).hexdigest()
