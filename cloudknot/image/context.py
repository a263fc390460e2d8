"""The files of a build context, and its three parts. No I/O: the Dockerfile is text here.

::

    Dockerfile              three stages: the system, the environment on top of it, and the program on top of that
    requirements.txt        what a person asks for
    pylock.toml             what the environment gets: every package with its exact version and hash (PEP 751)
    requirements.lock       the same in pip's words
    wheels/                 the local packages
    program/                function.pkl, function.py, program.json, modules/: the user's program
    cloudknot_worker/       the worker

The system is the Dockerfile above its last ``FROM ${SYSTEM}``: base image, Debian packages and a person's own lines.
Only the system has something to run. The environment is the Dockerfile above its last ``FROM ${ENVIRONMENT}``, with
the files outside the folders of program and worker. ``docker build .`` builds all stages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NotRequired, TypedDict

from cloudknot.worker.wire.seal import FORMAT

if TYPE_CHECKING:
    from cloudknot.aws.images.image_store import Image
    from cloudknot.program.packages.lock import LocalWheel, Lock

EDITED = "an edited Dockerfile"
"""The value of `Image.needs_engine` for a Dockerfile that a person edited."""
DOCKERFILE = "Dockerfile"
REQUIREMENTS = "requirements.txt"
FOUND_HERE = "# Installed where the knot was made. A version without a file for the jobs' platform is replaced.\n"
"""First line of requirements that nobody wrote: cloudknot found them, so another version may replace one."""
LOCK = "pylock.toml"
PIP_LOCK = "requirements.lock"
WHEELS = "wheels/"
PICKLE = "program/function.pkl"
SOURCE = "program/function.py"
PROGRAM_INFO = "program/program.json"
MODULES = "program/modules/"
GENERATED = ("program/", "cloudknot_worker/")
"""Folders with the files of the program stage. All other files belong to the environment."""

_IN_IMAGE = "/opt/cloudknot/env/"
"""The folder of the image that gets lock and wheels."""
_PROGRAM_STAGE = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?\$\{?ENVIRONMENT\}?\s*$", re.MULTILINE)
_ENVIRONMENT_STAGE = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?\$\{?SYSTEM\}?\s.*$", re.MULTILINE)
_CHANGES = re.compile(r"^\s*(ADD|ENV|RUN|SHELL)\s", re.MULTILINE | re.IGNORECASE)
_TAG = re.compile(r"format(\d+)-[0-9a-f]{32}")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)?(\S+)", re.MULTILINE | re.IGNORECASE)

# This text is part of every Dockerfile, so a change of it changes the digest of every environment.
_COMPLAINT = "cloudknot: this image has Python "
_CHECK = "import sys; v = '%d.%d' % sys.version_info[:2]; sys.exit(v != '{python}' and '" + _COMPLAINT + "' + v)"


def python_check(python: str) -> str:
    """Return Python code that fails in any other minor version of Python than ``python``.

    The code is valid in Python 2 as well, which an old base image may have.
    """
    return _CHECK.format(python=python)


def is_python_check(instruction: str) -> bool:
    """Return whether a Dockerfile's instruction is the check of its Python."""
    return _COMPLAINT in instruction


def python_found(log: str) -> str | None:
    """Return the version of Python that failed `python_check`; None when the image has no Python to run it."""
    match = re.search(rf"^{_COMPLAINT}(\d+\.\d+)", log, re.MULTILINE)
    return match[1] if match else None


def is_locked(path: str) -> bool:
    """Return whether a file is made from the lock, and so is written anew with each lock."""
    return path in (LOCK, PIP_LOCK) or path.startswith(WHEELS)


def locked_files(
    lock: Lock, wheels: Iterable[LocalWheel], downloaded: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Return the files that a build context gets from its lock and the local packages.

    ``downloaded`` has the files of packages by their names, for packages that pip must not ask an index for.
    """
    files = {**(downloaded or {}), **{wheel.filename: wheel.content for wheel in wheels}}
    sources = [(package.name, package.version, package.filename, package.sha256) for package in lock.packages]
    sources += [(wheel.name, wheel.version, wheel.filename, wheel.sha256) for wheel in wheels]
    lines = []
    for name, version, filename, digest in sources:
        place = f"{_IN_IMAGE}{filename}" if filename in files else f"{name}=={version}"
        # Without an index, the lock has no file and no hash.
        lines.append(f"{place} --hash=sha256:{digest}\n" if digest else f"{place}\n")
    return {
        LOCK: lock.text().encode(),
        PIP_LOCK: "".join(lines).encode(),
        **{f"{WHEELS}{name}": content for name, content in files.items()},
    }


def system_of(files: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """Return the build context of the system alone; None if the Dockerfile has no stage for it."""
    head, tail = _split_stages(files)
    stages = list(_ENVIRONMENT_STAGE.finditer(head))
    if tail is None or not stages or not _FROM.search(head[: stages[-1].start()]):
        return None
    added = {path: data for path, data in files.items() if not path.startswith(GENERATED) and not is_locked(path)}
    return {**added, REQUIREMENTS: b"", DOCKERFILE: head[: stages[-1].start()].encode()}


def is_built_whole(image: Image) -> bool:
    """Return whether an engine has to build all stages, because a person edited them or a package has to compile."""
    return system_of(image.files) is None or image.needs_engine == EDITED or any(image.lock.sources())


def system_tag(files: Mapping[str, bytes], platform: str, executables: Collection[str] = ()) -> str:
    """Return the tag of the system's own image. It does not depend on requirements or program."""
    return f"system-{_digest(platform, system_of(files) or files, {}, executables)[:32]}"


def environment_of(files: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """Return the build context of the environment alone; None if the Dockerfile has no stage for it."""
    head, tail = _split_stages(files)
    if tail is None:
        return None
    environment_files = {path: data for path, data in files.items() if not path.startswith(GENERATED)}
    return {**environment_files, DOCKERFILE: head.encode()}


def program_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the build context of the program. Its build argument ENVIRONMENT names the environment's image."""
    tail = _split_stages(files)[1]
    assert tail is not None
    return {**files, DOCKERFILE: f"ARG ENVIRONMENT\n{tail}".encode()}


def changes_environment(files: Mapping[str, bytes]) -> bool:
    """Return whether the program's stage runs or sets anything, and so may replace the environment's Python."""
    return bool(_CHANGES.search(_split_stages(files)[1] or ""))


def _split_stages(files: Mapping[str, bytes]) -> tuple[str, str | None]:
    """Return the Dockerfile above its last ``FROM ${ENVIRONMENT}``, and from there on; None without that line."""
    text = files.get(DOCKERFILE, b"").decode("utf-8", "replace")
    stages = list(_PROGRAM_STAGE.finditer(text))
    if not stages:
        return text, None
    head, tail = text[: stages[-1].start()], text[stages[-1].start() :]
    # A person may edit the Dockerfile. A program stage that copies from another stage cannot be built by itself.
    separable = len(_FROM.findall(tail)) == 1 and _FROM.search(head) and "--from=" not in tail
    return (head, tail) if separable else (text, None)


def base_of(files: Mapping[str, bytes]) -> str:
    """Return the base image of the first stage; empty if the Dockerfile names none."""
    match = _FROM.search(files.get(DOCKERFILE, b"").decode("utf-8", "replace"))
    return match[1] if match else ""


class ProgramInfo(TypedDict):
    """The content of ``program.json``."""

    function: str
    python: str
    cloudpickle: str
    filename: str
    firstlineno: int
    digest: str
    script: NotRequired[str]
    paths: NotRequired[list[str]]
    names: NotRequired[dict[str, list[str]]]
    username: NotRequired[str]
    needs_engine: NotRequired[str]
    local_packages: NotRequired[list[str]]
    format: NotRequired[int]
    """The newest format of stored data that the worker reads. Format 1 had no such number."""


def program_info(files: Mapping[str, bytes]) -> ProgramInfo:
    """Return the content of ``program.json``."""
    info: ProgramInfo = json.loads(files[PROGRAM_INFO])
    return info


def environment_digest(
    files: Mapping[str, bytes], platform: str, lock: Lock, executables: Collection[str] = ()
) -> str:
    """Return the SHA-256 digest, in hexadecimal, of everything that the environment is built from."""
    return _digest(platform, environment_of(files) or files, _packages(lock), executables)


def _packages(lock: Lock) -> dict[str, bytes]:
    """Return the substitutes of lock and requirements in a digest.

    Only the packages themselves count: not the address that they come from, nor the words that asked for them.
    """
    return {LOCK: lock.digest.encode(), PIP_LOCK: b"", REQUIREMENTS: b""}


def content_tag(files: Mapping[str, bytes], platform: str, lock: Lock, executables: Collection[str] = ()) -> str:
    """Return the image's tag: the format of its worker, and the digest of its whole build context."""
    info = program_info(files)
    # The bytes of a pickle and the path of its source differ between sessions although the function is the same. The
    # program's own digest replaces both.
    substitute = f"{info['digest']} {info['cloudpickle']}".encode()
    substitutes = {PICKLE: substitute, PROGRAM_INFO: substitute, **_packages(lock)}
    digest = _digest(platform, files, substitutes, executables)[:32]
    # Job definitions and manifests name the image. So each session learns the format without a request.
    return f"format{info['format']}-{digest}" if "format" in info else digest


def is_outdated(image_uri: str) -> bool:
    """Return whether the worker in an image is of an earlier version, and cannot read what this version stores."""
    match = _TAG.fullmatch(image_uri.rpartition(":")[2])
    return match is None or int(match[1]) < FORMAT


def is_outdated_context(files: Mapping[str, bytes]) -> bool:
    """Return whether an earlier version wrote the worker of a build context. See `is_outdated`."""
    return program_info(files).get("format", 1) < FORMAT


def _digest(
    platform: str, files: Mapping[str, bytes], substitutes: Mapping[str, bytes], executables: Collection[str]
) -> str:
    # An executable bit changes the image as well, so it counts.
    parts = [
        (path, hashlib.sha256(substitutes.get(path, data)).hexdigest() + ("x" if path in executables else ""))
        for path, data in sorted(files.items())
    ]
    return hashlib.sha256(json.dumps([platform, parts]).encode()).hexdigest()
