"""Build the wheel of a project from its source code, with the project's own build backend."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudknot.errors import ImageError
from cloudknot.program.packages import uv
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.wheels import cache, source_tree
from cloudknot.program.packages.wheels.archive import FORMAT, read_wheel, write_wheel
from cloudknot.program.packages.wheels.undeclared import with_undeclared

TIMEOUT = 30 * 60.0
"""Seconds that a build may take. One with compiled parts can take long."""
SHOWN_LINES = 12
"""Lines of the build's output in an error message."""

# Settings of pip that would install into another Python.
_PIP_PLACES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")
# The first moment that a zip file can name, in seconds.
_DATE = "315532800"
# setuptools writes into the project otherwise, and takes files of earlier builds from there.
_SETUPTOOLS = "[build]\nbuild_base = {0}\n[egg_info]\negg_base = {0}\n"


class FailedBuildError(Exception):
    """A build without a wheel. Its text is the end of the build's output."""


def build_wheel(source: Path, name: str, version: str, roots: Sequence[Path] = ()) -> LocalWheel:
    """Return the wheel of a project, built here unless its files are those of an earlier build.

    Parameters
    ----------
    source : Path
        The folder of the project.
    name : str
        The name of its distribution, for messages.
    version : str
        The version installed here, for tools that derive it from a repository. Empty if it is not installed.
    roots : sequence of Path
        The folders where Python finds the packages of an editable installation. The wheel gets all files in them.

    Raises
    ------
    ImageError
        The project cannot be built.
    """
    if not source.is_dir():
        raise ImageError(
            f"The local package {name} cannot be sent to jobs. It is installed from {source}, and that folder does "
            f"not exist. Move the folder back, or install {name} again from where it is now."
        )
    key = _key(source, name, version, roots)
    stored = cache.read(key)
    if stored is None:
        stored = write_wheel(with_undeclared(name, read_wheel(_built(source, name, version)), roots))
        # A file that changed during the build may be in the wheel in its old or its new state.
        if _key(source, name, version, roots) == key:
            cache.write(key, stored)
    return stored


def _key(source: Path, name: str, version: str, roots: Sequence[Path]) -> str:
    outside = [root for root in roots if not root.is_relative_to(source)]
    digests = [source_tree.digest(folder) for folder in (source, *outside)]
    parts = [FORMAT, name, version, sys.version, sysconfig.get_platform(), bool(roots), digests]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _built(source: Path, name: str, version: str) -> bytes:
    try:
        return run_build(source, name, version)
    except FailedBuildError as error:
        shown = f"uv build --wheel {source}" if uv.find() else f"pip wheel --no-deps {source}"
        raise ImageError(
            f"The local package {name} cannot be sent to jobs, because its wheel cannot be built from {source}. "
            f"Correct the error, and try `{shown}`. The build reports:\n{error}"
        ) from error


def run_build(source: Path, name: str, version: str) -> bytes:
    """Build the wheel of a folder or a source archive, and return it as the build backend wrote it.

    Raises
    ------
    FailedBuildError
        The build backend made no wheel.
    """
    with tempfile.TemporaryDirectory(prefix="cloudknot-", ignore_cleanup_errors=True) as folder:
        output, work = Path(folder, "wheel"), Path(folder, "work")
        output.mkdir()
        work.mkdir()
        environment = {**environment_of(source, work), **_versions(name, version)}
        reports = []
        for command in _commands(source, output):
            reports.append(run(command, environment))
            if wheels := list(output.glob("*.whl")):
                return wheels[0].read_bytes()
    raise FailedBuildError("\n".join(f"    {line}" for line in reports[0].strip().splitlines()[-SHOWN_LINES:]))


def _commands(source: Path, output: Path) -> list[list[str]]:
    """Return the commands to try in turn. The last ones need no index, if the build backend is installed here."""
    found = uv.find()
    if found:
        command = [found, "build", "--wheel", "--python", sys.executable, "--out-dir", str(output)]
        options = ["--no-build-isolation"]
    else:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check"]
        command += ["--wheel-dir", str(output)]
        options = ["--no-build-isolation", "--no-index"]
    return [[*command, str(source)], [*command, *options, str(source)]]


def _versions(name: str, version: str) -> dict[str, str]:
    """Return the variables that set the version of a project that takes it from its repository."""
    # Such a version changes with every commit, and contains the date.
    constant = name.upper().replace("-", "_").replace(".", "_")
    names = [f"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{constant}", "PDM_BUILD_SCM_VERSION"]
    names.append("POETRY_DYNAMIC_VERSIONING_BYPASS")
    return {name: version for name in names if version and name not in os.environ}


def environment_of(source: Path, work: Path) -> Mapping[str, str]:
    """Return the environment variables of a build that gives the same wheel in every folder and on every day."""
    settings = work / "setuptools.cfg"
    settings.write_text(_SETUPTOOLS.format(work), encoding="utf-8")
    from cloudknot.program.packages.indexes import Indexes

    own = {name: value for name, value in os.environ.items() if not name.startswith((*uv.PLACES, *_PIP_PLACES))}
    fixed = {"SOURCE_DATE_EPOCH": _DATE, "PYTHONHASHSEED": "0", "GIT_TERMINAL_PROMPT": "0", "NO_COLOR": "1"}
    environment = {**own, **Indexes.of_settings().environment(), **fixed}
    environment.setdefault("DIST_EXTRA_CONFIG", str(settings))
    # Debug information holds the path of the folder.
    if os.name == "posix":
        # Compilers take these flags as one text, so a path with a space would be two flags.
        maps = (f"-ffile-prefix-map={path}=." for path in map(str, (source, work)) if not path.split()[1:])
        flags = " ".join(("-g0", *maps))
        for variable in ("CFLAGS", "CXXFLAGS"):
            environment[variable] = f"{environment.get(variable, '')} {flags}".strip()
    return environment


def run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a build and return its output, without the logins of indexes."""
    from cloudknot.program.packages.indexes import redacted

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(environment),
        start_new_session=True,
        encoding="utf-8",
    )
    try:
        return redacted(process.communicate(timeout=TIMEOUT)[0])
    except subprocess.TimeoutExpired:
        return f"The build did not end within {TIMEOUT / 60:.0f} minutes."
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a build that still runs, with its compilers."""
    if process.poll() is None:
        if sys.platform != "win32":
            import signal

            # macOS refuses a signal to a group whose processes have all ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
