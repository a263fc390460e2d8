"""Make the wheel of the package at an address: a repository, an archive or a folder."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cloudknot.errors import ImageError
from cloudknot.program.packages import uv
from cloudknot.program.packages.distributions import name_of
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels import build, cache, pack
from cloudknot.program.packages.wheels.archive import FORMAT
from cloudknot.program.packages.wheels.fit import check_fit

_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
# ssh://git@host names a user, and no secret.
_SECRET = re.compile(r"(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@|(?<=ssh://)[^/@\s:]+:[^/@\s]*@")
# The same commit is the same content, as is an archive with this hash.
_FIXED = re.compile(r"@[0-9a-f]{40}(?![0-9a-f])|#sha256=[0-9a-f]{64}")
_SCHEMES = ("git+", "hg+", "svn+", "bzr+", "http://", "https://", "file:", "/", "./", "../")


def is_address(line: str) -> bool:
    """Return whether a requirement line names a place to install from: a repository, an archive or a folder."""
    return _place(line).startswith(_SCHEMES)


def _place(line: str) -> str:
    text = line.partition(" ;")[0].strip()
    _, separator, address = text.partition("@ ")
    return address.strip() if separator else text


# The lines of this session that contained a login, by the line without it.
_logins: dict[str, str] = {}


def without_secret(line: str) -> str:
    """Return a requirement line without the password in its address. This session remembers it for `wheel_at`."""
    plain = without_password(line)
    if plain != line:
        _logins[plain] = line
    return plain


def wheel_at(line: str, target: InstallTarget) -> LocalWheel:
    """Return the wheel of the package that a requirement line names by its place, made on this machine.

    Raises
    ------
    ImageError
        The package cannot be fetched or built, or it has compiled parts for other machines.
    """
    wheel = _from_folder(line) or _fetched(without_secret(line))
    check_fit(wheel, without_login(line), target)
    return wheel


def _from_folder(line: str) -> LocalWheel | None:
    """Return the wheel of a folder on this machine; None for any other address."""
    place = _place(line)
    folder = Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else place)
    # Not by the installer: it takes an earlier build of a folder as long as its pyproject.toml stays the same.
    return build.build_wheel(folder.absolute(), folder.name, "") if folder.is_dir() else None


def _fetched(line: str) -> LocalWheel:
    parts = (FORMAT, line, sys.version, sysconfig.get_platform())
    key = hashlib.sha256(repr(parts).encode()).hexdigest() if _FIXED.search(line) else ""
    wheel = cache.read(key) if key else None
    if wheel is None:
        with tempfile.TemporaryDirectory(prefix="cloudknot-", ignore_cleanup_errors=True) as folder:
            site = _install(line, Path(folder))
            (distribution,) = metadata.distributions(path=[str(site)])
            wheel = pack.pack(name_of(distribution), distribution)
        if key:
            cache.write(key, wheel)
    return wheel


def _install(line: str, folder: Path) -> Path:
    """Install the package at an address into a folder, without its dependencies. Return its site-packages."""
    found = uv.find()
    if found:
        command = [found, "pip", "install", "--no-deps", "--link-mode", "copy", "--python", sys.executable]
    else:
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--ignore-installed", "--no-compile"]
        command += ["--disable-pip-version-check", "--no-warn-script-location"]
    # In a file, because everybody on this machine can read the arguments of a process.
    lines = folder / "requirements.txt"
    lines.touch(mode=0o600)
    lines.write_text(f"{_logins.get(line, line)}\n", encoding="utf-8")
    place = folder / "environment"
    output = build.run([*command, "--prefix", str(place), "-r", str(lines)], build.environment_of(folder, folder))
    sites = [path.parent for path in place.glob("**/*.dist-info")]
    if not sites:
        report = "\n".join(f"    {text}" for text in output.strip().splitlines()[-build.SHOWN_LINES :])
        raise ImageError(
            f"The package at {without_login(line)} cannot be sent to jobs. It cannot be fetched or built here. "
            f"Check its address and your access to it. The installer reports:\n{without_login(report)}"
        )
    return sites[0]


def without_password(text: str) -> str:
    """Return a text without the passwords and tokens in its addresses. The user of ``ssh://git@host`` stays."""
    return _SECRET.sub("", text)


def without_login(text: str) -> str:
    """Return a text without the user names and passwords in its addresses."""
    return _LOGIN.sub("", text)
