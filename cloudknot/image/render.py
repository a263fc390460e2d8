"""Image: the build context of a program, and its tag.

Rendering is pure: the same program and choices give the same bytes; others build them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from string import Template
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import Image
from cloudknot.image import context
from cloudknot.options import validators

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from cloudknot.program.program import Program

WORKER_NEEDS = ("boto3", "cloudpickle")
PLATFORM = validators.one_of("linux/amd64", "linux/arm64")

_APT = """\
RUN apt-get update && \\
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${packages} && \\
    rm -rf /var/lib/apt/lists/*
"""
_GIT = "RUN command -v git >/dev/null || \\\n    (${install})\n"
_USER = """\
RUN id -u ${name} >/dev/null 2>&1 || useradd --create-home ${name} || adduser -D ${name}; chown ${name} /opt/cloudknot
USER ${name}
"""


def image_of(
    files: Mapping[str, bytes],
    platform: str = "linux/amd64",
    *,
    executables: Iterable[str] = (),
    nocache: bool = False,
    tags: Iterable[str] = (),
) -> Image:
    """The image of a build context, rendered or read from a directory.

    ``executables`` are the paths of the files that can be executed.

    Raises
    ------
    CloudknotInputError
        The platform is not one that Batch has.
    """
    ordered, executables = dict(sorted(files.items())), frozenset(executables)
    said = context.about(files)
    listed = (line.strip() for line in files[context.REQUIREMENTS].decode("utf-8", "replace").splitlines())
    return Image(
        platform=PLATFORM("platform", platform),
        python=said["python"],
        requirements=tuple(line for line in listed if line and not line.startswith("#")),
        files=ordered,
        environment_digest=context.environment_digest(ordered, platform, executables),
        tag=context.content_tag(ordered, platform, executables),
        has_environment_stage=context.environment_of(ordered) is not None,
        executables=executables,
        needs_engine=said.get("needs_engine", ""),
        nocache=nocache,
        extra_tags=tuple(tags),
    )


def render(
    program: Program,
    *,
    base_image: str | None = None,
    username: str | None = None,
    github_installs: Iterable[str] = (),
    apt_packages: Iterable[str] = (),
    dockerfile_lines: Iterable[str] = (),
    ignore_installed: bool = False,
) -> dict[str, bytes]:
    """Render a program's build context.

    Parameters
    ----------
    program : Program
    base_image : str, optional
        Default: the slim image of the program's Python, for example ``python:3.11-slim``.
    username : str, optional
        The user that jobs run as; made if the base image has none of that name. Default: the base image's own.
    github_installs : iterable of str
        Addresses that pip installs with git, for example ``"https://github.com/owner/name.git@v1"``.
    apt_packages : iterable of str
        Debian packages to install.
    dockerfile_lines : iterable of str
        Lines of a Dockerfile, run as root after the packages and before the requirements are installed.
    ignore_installed : bool
        Whether pip installs also what the base image has already.

    Raises
    ------
    CloudknotInputError
        A choice is not what a Dockerfile or pip takes.
    """
    base_image = validators.BASE_IMAGE("base_image", base_image or f"python:{program.python}-slim")
    packages = validators.APT_PACKAGES("apt_packages", apt_packages)
    lines = validators.dockerfile_lines("dockerfile_lines", dockerfile_lines)
    requirements = _requirements(program.requirements, github_installs)
    needs_engine = " and ".join(
        name for name, value in (("apt_packages", packages), ("dockerfile_lines", lines)) if value
    )
    parts = {
        "base_image": base_image,
        "apt": _apt(packages),
        "git": _git() if any("git+" in line for line in requirements) else "",
        "lines": "\n".join(lines),
        "check": context.python_check(program.python),
        "pip_options": "--ignore-installed " if ignore_installed else "",
        **_user(username),
    }
    return {
        context.DOCKERFILE: _dockerfile(parts),
        context.REQUIREMENTS: "".join(f"{line}\n" for line in requirements).encode(),
        **_program_files(program, needs_engine),
        **worker_files(),
    }


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


def _program_files(program: Program, needs_engine: str) -> dict[str, bytes]:
    about: context.AboutProgram = {
        "function": program.name,
        "python": program.python,
        "cloudpickle": _installed("cloudpickle"),
        "filename": program.filename,
        "firstlineno": program.firstlineno,
        "digest": program.digest,
        "script": program.script,
        "needs_engine": needs_engine,
    }
    return {
        context.PICKLE: program.pickled,
        context.SOURCE: program.source.encode("utf-8", "replace"),
        context.ABOUT: json.dumps(about, indent=2).encode() + b"\n",
        **{f"{context.MODULES}{path}": source for path, source in program.modules.items()},
    }


def _requirements(asked: tuple[str, ...], github_installs: Iterable[str]) -> tuple[str, ...]:
    from cloudknot.program.requirements import name_of

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
    """As pip takes it: ``git+https://...``; what git alone understands is written out."""
    (plain,) = validators.GITHUB("image_github_installs", address)
    plain = plain.removeprefix("git+")
    if plain.startswith("git@"):
        host, _, path = plain.removeprefix("git@").partition(":")
        plain = f"ssh://git@{host}/{path}"
    return f"git+{plain}"


def _repository(line: str) -> str | None:
    """The repository that a requirement line installs from, without its revision; None for other lines."""
    found = re.search(r"git\+\w+://(?:[^/@\s]+@)?([^@#\s]+)", line)
    return found[1].removesuffix(".git").lower() if found else None


def _installed(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def _apt(packages: Iterable[str]) -> str:
    wanted = sorted(packages)
    return Template(_APT).substitute(packages=" ".join(wanted)) if wanted else ""


def _git() -> str:
    install = "apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*"
    return Template(_GIT).substitute(install=install)


def _user(username: str | None) -> dict[str, str]:
    """What is said of users: the base image's own, or root while the environment is made and then the one named."""
    if username is None:
        return {"root": "", "user": ""}
    name = validators.USER_NAME("username", username)
    return {"root": "USER root", "user": Template(_USER).substitute(name=name)}


def _dockerfile(parts: Mapping[str, str]) -> bytes:
    from importlib import resources

    template = Template(resources.files("cloudknot.image").joinpath("Dockerfile").read_text(encoding="utf-8"))
    return re.sub(r"\n{3,}", "\n\n", template.substitute(parts)).encode()
