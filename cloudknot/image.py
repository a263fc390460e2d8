"""Image: the build context of a program, and its tag.

Second stage of the pipeline. Rendering is pure: the same program and choices give the same bytes; others build them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from string import Template
from typing import TYPE_CHECKING

from cloudknot.errors import CloudknotInputError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from cloudknot.program import Program

PICKLE = "program/function.pkl"
ABOUT = "program/program.json"
WORKER_NEEDS = ("boto3", "cloudpickle")

_TAG_LENGTH = 32
_GIT = """\
RUN command -v git >/dev/null || \\
    (apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*)
"""
_USER = """\
RUN id -u ${name} >/dev/null 2>&1 || useradd --create-home ${name}; chown ${name} /opt/cloudknot
USER ${name}
"""


@dataclass(frozen=True)
class Image:
    """Everything that an image is built from.

    Attributes
    ----------
    base_image : str
    platform : str
        ``"linux/amd64"`` or ``"linux/arm64"``.
    requirements : tuple of str
        Everything that pip installs: the program's requirements, the worker's own, the GitHub installs.
    files : mapping of str to bytes
        The whole build context, by path.
    environment_digest : str
        SHA-256 in hexadecimal of what the environment is made from; editing the function keeps it.
    tag : str
        Digest of everything in the image, 32 hexadecimal digits.
    """

    base_image: str
    platform: str
    requirements: tuple[str, ...]
    files: Mapping[str, bytes]
    environment_digest: str
    tag: str


def render_image(
    program: Program,
    *,
    base_image: str | None = None,
    username: str | None = None,
    github_installs: Iterable[str] = (),
    platform: str = "linux/amd64",
) -> Image:
    """Render a program's build context.

    Parameters
    ----------
    program : Program
    base_image : str, optional
        Default: the slim image of the program's Python, for example ``python:3.11-slim``.
    username : str, optional
        The user that jobs run as. Default: the base image's own, usually root.
    github_installs : iterable of str
        Addresses that pip installs with git, for example ``"https://github.com/owner/name.git@v1"``.
    platform : str
        What the image is built for.

    Raises
    ------
    CloudknotInputError
        A choice is not what a Dockerfile or pip takes.
    """
    base_image = _checked("base_image", base_image or f"python:{program.python}-slim", r"[\w.:/@-]+")
    username = _checked("username", username, r"[a-z_][a-z0-9_-]{0,31}") if username is not None else None
    _checked("platform", platform, r"linux/(amd64|arm64)")
    requirements = _requirements(program.requirements, github_installs)
    environment = _digest(base_image, platform, username or "", *requirements)
    files = {
        "Dockerfile": _dockerfile(program, base_image, username, requirements, environment),
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        **_program_files(program),
        **worker_files(),
    }
    ordered = dict(sorted(files.items()))
    tag = _tag(ordered, program, base_image, platform)
    return Image(base_image, platform, requirements, ordered, environment, tag)


@cache
def worker_files() -> Mapping[str, bytes]:
    """The worker's source files as they lie in every image."""
    from importlib import resources

    return {f"cloudknot_worker/{path}": source for path, source in _sources(resources.files("cloudknot.worker"))}


def _sources(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _program_files(program: Program) -> dict[str, bytes]:
    about = {
        "function": program.name,
        "python": program.python,
        "cloudpickle": _installed("cloudpickle"),
        "filename": program.filename,
        "firstlineno": program.firstlineno,
    }
    return {
        PICKLE: program.pickled,
        "program/function.py": program.source.encode("utf-8", "replace"),
        ABOUT: json.dumps(about, indent=2).encode() + b"\n",
        **{f"program/modules/{path}": source for path, source in program.modules.items()},
    }


def _requirements(asked: tuple[str, ...], github_installs: Iterable[str]) -> tuple[str, ...]:
    from cloudknot.requirements import name_of

    direct = tuple(dict.fromkeys(_github(address) for address in github_installs))
    repositories = {_repository(line) for line in direct}
    kept = [line for line in asked if _repository(line) not in repositories]
    named = {name_of(line) for line in kept}
    own = [f"{name}=={_installed(name)}" for name in WORKER_NEEDS if name not in named]
    options = [line for line in kept if line.startswith("--")]
    rest = sorted(
        [*own, *(line for line in kept if not line.startswith("--"))], key=lambda line: (name_of(line), line)
    )
    return (*options, *rest, *direct)


def _github(address: str) -> str:
    plain = str(address).removeprefix("git+")
    if not re.fullmatch(r"(https|ssh)://[^\s'\"\\]+", plain):
        raise CloudknotInputError(
            f"{address!r} in image_github_installs is not an address that pip can install with git. "
            "Write for example 'https://github.com/owner/name.git@v1.0'."
        )
    return f"git+{plain}"


def _repository(line: str) -> str | None:
    """The repository that a requirement line installs from, without its revision; None for other lines."""
    found = re.search(r"git\+\w+://(?:[^/@\s]+@)?([^@#\s]+)", line)
    return found[1].removesuffix(".git").lower() if found else None


def _installed(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def _dockerfile(
    program: Program, base_image: str, username: str | None, requirements: tuple[str, ...], environment: str
) -> bytes:
    from importlib import resources

    template = Template(resources.files("cloudknot.templates").joinpath("Dockerfile").read_text(encoding="utf-8"))
    text = template.substitute(
        base_image=base_image,
        git=_GIT if any("git+" in line for line in requirements) else "",
        user=Template(_USER).substitute(name=username) if username else "",
        label_name=re.sub(r"[^\w.<>-]", "_", program.name, flags=re.ASCII),
        environment=environment,
        program=program.digest,
    )
    return re.sub(r"\n{3,}", "\n\n", text).encode()


def _tag(files: Mapping[str, bytes], program: Program, base_image: str, platform: str) -> str:
    """Digest of the content. The pickle's bytes and the place of the source differ between sessions, so the
    program's digest stands for them."""
    standing = {PICKLE: program.digest, ABOUT: _installed("cloudpickle")}
    content = [part for path, data in files.items() for part in (path, standing.get(path) or _sha256(data))]
    return _digest(base_image, platform, *content)[:_TAG_LENGTH]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(*parts: str) -> str:
    return _sha256(json.dumps(parts).encode())


def _checked(choice: str, value: str, pattern: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
        raise CloudknotInputError(f"{choice}={value!r} is not acceptable: it must match {pattern}.")
    return value
