"""Render a program's build context, and describe the image of a build context.

Rendering is deterministic and builds nothing: the same program and options give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from string import Template
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import Image
from cloudknot.image import context
from cloudknot.options import validators
from cloudknot.program.files.text import portable
from cloudknot.program.packages.resolve import resolve as resolve_with_uv
from cloudknot.program.packages.target import InstallTarget
from cloudknot.worker.wire.seal import FORMAT

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from cloudknot.program.packages.lock import LocalWheel, Lock
    from cloudknot.program.program import Program

WORKER_NEEDS = ("boto3", "cloudpickle")
"""Packages that the worker imports besides the standard library."""
PLATFORM = validators.one_of("linux/amd64", "linux/arm64")

# Each package list is removed in the layer that created it, so that no layer contains it.
_APT = """\
RUN apt-get update && \\
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${packages} && \\
    rm -rf /var/lib/apt/lists/*
"""
_FIND_PYTHON = '"$(command -v python || command -v python{python} || command -v python3 || echo python)"'
"""The shell's words for the base image's Python. The assembly looks for the same names in the same order."""
# Debian has useradd, Alpine has adduser -D.
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
    target: InstallTarget | None = None,
    wheels: Sequence[LocalWheel] = (),
    resolve: Callable[..., Lock] = resolve_with_uv,
    fetch: Callable[[str, InstallTarget], LocalWheel] | None = None,
) -> Image:
    """Return the description of the image that a build context gives. Its requirements are resolved here.

    Parameters
    ----------
    files : mapping of str to bytes
        The build context, rendered or read from a directory.
    platform : {"linux/amd64", "linux/arm64"}
    executables : iterable of str
        Paths of the files to make executable.
    nocache : bool, default False
        Whether to build and push the image even if it exists.
    tags : iterable of str
        Tags for the image besides its own.
    target : InstallTarget, optional
        What the packages are chosen for. Default: the platform, with the program's Python.
    wheels : sequence of LocalWheel, default ()
        Wheels besides those of the program's local packages and of the addresses in its requirements.
    resolve : callable
        `cloudknot.program.packages.resolve.resolve`, or a function like it.
    fetch : callable, optional
        Makes the wheel of the package at an address. Default: `cloudknot.program.packages.wheels.fetch.wheel_at`.

    Raises
    ------
    CloudknotInputError
        Batch has no machines of that platform.
    ImageError
        The requirements have no solution, or the index does not answer. Or a local package cannot be sent to jobs.
    """
    info = context.program_info(files)
    platform, executables = PLATFORM("platform", platform), frozenset(executables)
    requirements = _requirement_lines(files)
    target = target or InstallTarget(platform, info["python"])
    solve, names = partial(resolve, preferred=_preferred(files)), info.get("local_packages", ())
    lock, wheels = _gatherer()(names, requirements, target, solve, refresh=nocache, wheels=wheels, fetch=fetch)
    own = {path: data for path, data in files.items() if not context.is_locked(path)}
    ordered = dict(sorted({**own, **context.locked_files(lock, wheels)}.items()))
    return Image(
        platform=platform, python=info["python"], requirements=requirements, lock=lock, wheels=wheels,
        base_image=context.base_of(ordered), username=info.get("username", ""), files=ordered,
        environment_digest=context.environment_digest(ordered, platform, lock, executables),
        tag=context.content_tag(ordered, platform, lock, executables),
        has_environment_stage=context.environment_of(ordered) is not None, executables=executables,
        needs_engine=info.get("needs_engine", ""), nocache=nocache, extra_tags=tuple(tags),
    )  # fmt: skip


def _gatherer() -> Callable[..., tuple[Lock, tuple[LocalWheel, ...]]]:
    # Its modules take long to import.
    from cloudknot.program.packages.wheels.gather import gather

    return gather


def _requirement_lines(files: Mapping[str, bytes]) -> tuple[str, ...]:
    lines = (line.strip() for line in files[context.REQUIREMENTS].decode("utf-8", "replace").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _preferred(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return the names of the packages whose line says only which version is installed here."""
    from cloudknot.program.requirements import name_of

    # Another version may replace a pin that nobody wrote. Those of the worker's own packages are always such.
    found_here = context.FOUND_HERE.encode() in files[context.REQUIREMENTS]
    return frozenset(map(name_of, _requirement_lines(files)) if found_here else WORKER_NEEDS)


def render(
    program: Program,
    *,
    base_image: str | None = None,
    username: str | None = None,
    github_installs: Iterable[str] = (),
    apt_packages: Iterable[str] = (),
    dockerfile_lines: Iterable[str] = (),
) -> dict[str, bytes]:
    """Return a program's build context: its files by their path.

    Parameters
    ----------
    program : Program
    base_image : str, optional
        Default: the slim image of the program's Python, for example ``python:3.11-slim``.
    username : str, optional
        The user that jobs run as, created if the base image does not have it. Default: root.
    github_installs : iterable of str
        Addresses of git repositories to install, for example ``"https://github.com/owner/name.git@v1"``.
    apt_packages : iterable of str
        Debian packages to install.
    dockerfile_lines : iterable of str
        Lines for the Dockerfile. They run as root, after the packages and before the requirements are installed.

    Raises
    ------
    CloudknotInputError
        An option is not valid in a Dockerfile or for pip.
    """
    # Only the minor version of Python that pickled the function can load it.
    base_image = validators.BASE_IMAGE("base_image", base_image or f"python:{program.python}-slim")
    packages = validators.APT_PACKAGES("apt_packages", apt_packages)
    lines = validators.dockerfile_lines("dockerfile_lines", dockerfile_lines)
    requirements = _requirements(program, github_installs)
    # A virtual environment has no place for Debian packages or for lines of a Dockerfile.
    engine_options = {"apt_packages": packages, "dockerfile_lines": lines}
    needs_engine = " and ".join(name for name, value in engine_options.items() if value)
    parts = {
        "base_image": base_image,
        "apt": _apt(packages),
        "lines": "\n".join(lines),
        "find_python": _FIND_PYTHON.format(python=program.python),
        "check": context.python_check(program.python),
        "user": "" if username is None else _user(username),
    }
    return {
        context.DOCKERFILE: _dockerfile(parts),
        context.REQUIREMENTS: _requirements_file(requirements, program.found_here),
        **_program_files(program, needs_engine, username or ""),
        **worker_files(),
    }


@cache
def worker_files() -> Mapping[str, bytes]:
    """Return the worker's source files by their path in the build context. They are the same in every image."""
    from importlib import resources

    return {f"cloudknot_worker/{path}": source for path, source in _sources(resources.files("cloudknot.worker"))}


def _sources(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", portable(entry.name, entry.read_bytes())


def _program_files(program: Program, needs_engine: str, username: str) -> dict[str, bytes]:
    info: context.ProgramInfo = {
        "function": program.name,
        "python": program.python,
        # The worker compares this version before it unpickles, to report a difference in plain words.
        "cloudpickle": _installed("cloudpickle"),
        "filename": program.filename,
        "firstlineno": program.firstlineno,
        "digest": program.digest,
        "script": program.script,
        "paths": list(program.paths),
        "names": {module: list(names) for module, names in program.names.items()},
        "needs_engine": needs_engine,
        "username": username,
        "local_packages": list(program.local_packages),
        "format": FORMAT,
    }
    return {
        context.PICKLE: program.pickled,
        context.SOURCE: program.source.encode("utf-8", "replace"),
        context.PROGRAM_INFO: json.dumps(info, indent=2).encode() + b"\n",
        **{f"{context.MODULES}{path}": source for path, source in program.modules.items()},
    }


def _requirements(program: Program, github_installs: Iterable[str]) -> tuple[str, ...]:
    """Return all lines of requirements.txt: options, then packages sorted by name, then git repositories."""
    from cloudknot.program.packages.wheels.fetch import without_secret
    from cloudknot.program.requirements import name_of

    direct = tuple(dict.fromkeys(_github(address) for address in github_installs))
    repositories = {_repository(line) for line in direct}
    # pip refuses two lines for one repository. The user's address wins over the one of the local installation.
    lines = [line for line in program.requirements if _repository(line) not in repositories]
    names = {*map(name_of, lines), *program.local_packages}
    # The user may require other versions of the worker's packages than those installed here.
    own = [f"{name}=={_installed(name)}" for name in WORKER_NEEDS if name not in names]
    options = [line for line in lines if line.startswith("--")]
    packages = [*own, *(line for line in lines if not line.startswith("--"))]
    # Sorted, so that the same requirements always give the same digest.
    ordered = (*options, *sorted(packages, key=lambda line: (name_of(line), line)), *direct)
    # These lines are stored with the image, where others can read them.
    return tuple(map(without_secret, ordered))


def _requirements_file(lines: Iterable[str], found_here: bool) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    return f"{context.FOUND_HERE if found_here else ''}{text}".encode()


def _github(address: str) -> str:
    """Return an address in pip's form, ``git+https://...``. pip does not accept git's short form ``git@host:path``."""
    (plain,) = validators.GITHUB("image_github_installs", address)
    plain = plain.removeprefix("git+")
    if plain.startswith("git@"):
        host, _, path = plain.removeprefix("git@").partition(":")
        plain = f"ssh://git@{host}/{path}"
    return f"git+{plain}"


def _repository(line: str) -> str | None:
    """Return the repository that a requirement line installs from, without its revision; None for other lines."""
    match = re.search(r"git\+\w+://(?:[^/@\s]+@)?([^@#\s]+)", line)
    return match[1].removesuffix(".git").lower() if match else None


def _installed(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def _apt(packages: Iterable[str]) -> str:
    names = sorted(packages)
    return Template(_APT).substitute(packages=" ".join(names)) if names else ""


def _user(username: str) -> str:
    """Return the Dockerfile's lines that create a user and run jobs as that user."""
    return Template(_USER).substitute(name=validators.USER_NAME("username", username))


def _dockerfile(parts: Mapping[str, str]) -> bytes:
    from importlib import resources

    # Parts that are not used leave empty lines.
    template = Template(resources.files("cloudknot.image").joinpath("Dockerfile").read_text(encoding="utf-8"))
    return re.sub(r"\n{3,}", "\n\n", template.substitute(parts)).encode()
