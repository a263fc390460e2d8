"""Virtual environments for the contestants, made once for each list of requirements and reused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from uv import find_uv_bin

from cloudknot.program.packages.indexes import Indexes

REQUIREMENTS = Path(__file__).parent / "requirements"
SCIENCE = "science"
"""The environment with the libraries of the workloads. All contestants import them from there: the same builds."""
ANY_INDEX = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
"""Variables of the other environments: the index that has the version. Knots take the first one with the package."""
WITHOUT_PACKAGES = ("serial", "stdlib", "forkserver")


class NotInstallable(Exception):
    """This machine cannot run the contestant."""


def folder() -> Path:
    """Return the folder of the environments, beside those that the tests share."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cloudknot-tests" / "rivals"


def python_of(contestant: str) -> Path:
    """Return the interpreter of the contestant's environment. It imports the workloads' libraries, too."""
    if contestant == "spark" and shutil.which("java") is None:
        raise NotInstallable("Spark needs Java. Install it, for example with: apt-get install default-jre-headless")
    environment = _made("plain", "") if contestant in WITHOUT_PACKAGES else _made(contestant, _lines(contestant))
    _import_from(environment, _made(SCIENCE, _lines(SCIENCE)))
    return environment / "bin" / "python"


def is_made(contestant: str) -> bool:
    """Return whether the contestant's environment needs no installation."""
    return contestant in WITHOUT_PACKAGES or _is_complete(_place(contestant, _lines(contestant)))


def science_versions() -> list[str]:
    """Return the versions of all packages in the workloads' environment, as lines of requirements."""
    python = _made(SCIENCE, _lines(SCIENCE)) / "bin" / "python"
    command = [python, "-m", "pip", "list", "--format", "freeze", "--exclude", "pip", "--exclude", "setuptools"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def _lines(name: str) -> str:
    return (REQUIREMENTS / f"{name}.txt").read_text()


def _made(name: str, requirements: str) -> Path:
    """Return the environment with these requirements. Make it if needed."""
    environment = _place(name, requirements)
    environment.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{environment}.lock"):
        if not _is_complete(environment):
            print(f"installing {name} into {environment}", file=sys.stderr, flush=True)
            _install(environment, requirements, {} if name == SCIENCE else ANY_INDEX)
            (environment / "complete").touch()
    return environment


def _place(name: str, requirements: str) -> Path:
    # Knots have the same indexes, so they find the versions of the workloads' environment.
    recipe = repr((name, requirements, sys.version, Indexes.of_settings().addresses()))
    return folder() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _is_complete(environment: Path) -> bool:
    return (environment / "complete").exists()


def _install(environment: Path, requirements: str, variables: Mapping[str, str]) -> None:
    venv.create(environment, clear=True, with_pip=True, symlinks=True)
    if not requirements:
        return
    failure = _run_uv(environment, requirements, variables)
    if failure and "==" in requirements:
        print(f"An index lacks a version, so others are taken. {failure}", file=sys.stderr, flush=True)
        failure = _run_uv(environment, re.sub("==.*", "", requirements), variables)
    if failure:
        raise NotInstallable(failure)


def _run_uv(environment: Path, requirements: str, variables: Mapping[str, str]) -> str:
    """Install requirements. Return uv's error, or an empty text."""
    # uv is several times faster than pip. Like pip, it compiles, so that the first measured import need not.
    command = [find_uv_bin(), "pip", "install", "--quiet", "--compile-bytecode"]
    command += ["--python", str(environment / "bin" / "python"), *requirements.split()]
    variables = {**os.environ, **Indexes.of_settings().environment(), **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    return done.stderr if done.returncode else ""


def _import_from(environment: Path, science: Path) -> None:
    """Let the environment import the workloads' libraries. Refuse a copy of its own, which would come first."""
    packages = _site_packages(environment)
    if own := [name for name in ("numpy", "scipy", "dipy", "skimage") if (packages / name).exists()]:
        raise NotInstallable(f"{environment.name} brings its own {', '.join(own)}, so builds would differ.")
    link, line = packages / "workloads.pth", f"{_site_packages(science)}\n"
    if not link.exists() or link.read_text() != line:
        link.write_text(line)


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
