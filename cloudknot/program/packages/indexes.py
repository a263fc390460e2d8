"""The package indexes of a person's settings, with their credentials, for uv and pip.

The settings of pip reach uv here, because uv reads its own only. Credentials stay in this process and in the variables
of the tools that it starts. They are never part of a requirement line, a lock, an image, a message or an argument.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from cloudknot.options.config import user_home
from cloudknot.program.files.text import decoded

# A login in an address: everything between "//" and "@".
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_UV_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_UV_KEYS = {"index", "index-url", "extra-index-url", "find-links", "no-index"}
_OPTIONS = {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--no-index"}

# The logins that requirement lines of this session contained, by scheme and host: "https://index.example".
_logins: dict[str, str] = {}


@dataclass(frozen=True)
class Indexes:
    """The places that packages come from.

    Attributes
    ----------
    default : str
        The main index; empty for PyPI, or the one of uv's settings.
    extra : tuple of str
        Further indexes. uv takes a package from the first index that has it.
    find_links : tuple of str
        Directories or pages with files.
    trusted : tuple of str
        Hosts that need no valid certificate.
    certificates : str
        A file with certificates of authorities.
    no_index : bool
        Whether only ``find_links`` count.
    """

    default: str = ""
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    certificates: str = ""
    no_index: bool = False

    @classmethod
    def of_settings(cls) -> Indexes:
        """Return the indexes of pip's settings. Without those that uv's own settings replace."""
        values = _pip_settings()
        found = cls(
            values.get("index-url", ""),
            tuple(values.get("extra-index-url", "").split()),
            tuple(values.get("find-links", "").split()),
            tuple(values.get("trusted-host", "").split()),
            os.path.expanduser(values.get("cert", "")),
            values.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        )
        return replace(found, default="", extra=(), find_links=(), no_index=False) if _uv_has_indexes() else found

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> Indexes:
        """Return the indexes of the settings, with those of the options among some requirement lines."""
        found = cls.of_settings()
        for option, value in map(split_option, lines):
            if option == "--no-index":
                found = replace(found, no_index=True)
            elif option in ("-i", "--index-url"):
                found = replace(found, default=with_login(value))
            elif option == "--extra-index-url":
                found = replace(found, extra=(*found.extra, with_login(value)))
            elif option in ("-f", "--find-links"):
                found = replace(found, find_links=(*found.find_links, with_login(value)))
            elif option == "--trusted-host":
                found = replace(found, trusted=(*found.trusted, value))
        return found

    @classmethod
    def for_downloads(cls) -> Indexes:
        """Return the indexes whose logins a download of locked files may need. No index is asked for a package."""
        found = cls.of_settings()
        return replace(found, extra=(*found.extra, *map(with_login, _logins)))

    def environment(self) -> dict[str, str]:
        """Return the variables that give these indexes to uv."""
        variables: dict[str, str] = {}
        if self.default:
            variables["UV_DEFAULT_INDEX"] = self.default
        for name, values, separator in (
            ("UV_INDEX", self.extra, " "),
            ("UV_FIND_LINKS", self.find_links, ","),
            ("UV_INSECURE_HOST", self.trusted, " "),
        ):
            if values:
                variables[name] = separator.join(filter(None, (os.environ.get(name, ""), *values)))
        if self.certificates and "SSL_CERT_FILE" not in os.environ:
            variables["SSL_CERT_FILE"] = self.certificates
        if self._needs_keyring():
            variables["UV_KEYRING_PROVIDER"] = "subprocess"
        return variables

    def addresses(self) -> list[str]:
        """Return everything that decides which files a name means, without credentials."""
        own = [*map(without_login, (self.default, *self.extra, *self.find_links)), str(self.no_index)]
        return [*own, *(without_login(os.environ.get(name, "")) for name in _UV_VARIABLES), *_uv_config_texts()]

    def secrets(self) -> list[str]:
        """Return the passwords and tokens of all addresses, for a search in texts."""
        known = [urlsplit(address) for address in (self.default, *self.extra, *self.find_links)]
        return [part for url in known for part in (url.password, url.username) if part and len(part) > 3]

    def _needs_keyring(self) -> bool:
        # uv asks a keyring only by this setting. pip asks it for addresses with a user but without a password.
        addresses = map(urlsplit, (self.default, *self.extra))
        asks = any(address.username and not address.password for address in addresses)
        return asks and "UV_KEYRING_PROVIDER" not in os.environ and shutil.which("keyring") is not None


def split_option(line: str) -> tuple[str, str]:
    """Return the name and the value of an option such as ``--index-url=ADDRESS``; two empty texts for another line."""
    match = re.fullmatch(r"(--[\w-]+|-[a-z])(?:[\s=]+(.*))?", line.strip())
    return (match[1], (match[2] or "").strip("'\"")) if match else ("", "")


def is_index_option(line: str) -> bool:
    """Return whether a line is an option that says where packages come from."""
    return split_option(line)[0] in _OPTIONS


def without_login(address: str) -> str:
    """Return an address or text without the user names and passwords in its addresses."""
    return _LOGIN.sub("", address)


def remember_login(address: str) -> str:
    """Keep the login of an address in this process, and return the address without it."""
    url = urlsplit(address)
    login, _, host = url.netloc.rpartition("@")
    if login:
        _logins[f"{url.scheme}://{host}"] = login
    return urlunsplit(url._replace(netloc=host)) if login else address


def with_login(address: str) -> str:
    """Return an address with the login that a requirement line of this session had for its host."""
    url = urlsplit(address)
    login = _logins.get(f"{url.scheme}://{url.netloc}")
    return urlunsplit(url._replace(netloc=f"{login}@{url.netloc}")) if login else address


def login_for(address: str) -> str:
    """Return ``user:password`` for the host of an address, from the settings, netrc or keyring; empty without one."""
    host = urlsplit(address).netloc.rpartition("@")[2]
    for known in map(urlsplit, _known_addresses()):
        login, _, name = known.netloc.rpartition("@")
        if login and name == host:
            user, _, password = login.partition(":")
            found = unquote(password) or _keyring_password(host, unquote(user))
            return f"{unquote(user)}:{found}"
    return _named_login(host) or _netrc_login(host.partition(":")[0])


def _named_login(host: str) -> str:
    """Return the login in ``UV_INDEX_<NAME>_USERNAME`` and ``..._PASSWORD`` for an index of uv's with a name."""
    for line in _uv_index_entries():
        name, _, address = line.partition("=")
        if urlsplit(address).netloc == host:
            prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}"
            user, password = os.environ.get(f"{prefix}_USERNAME", ""), os.environ.get(f"{prefix}_PASSWORD", "")
            return f"{user}:{password}" if user or password else ""
    return ""


def _uv_index_entries() -> Iterator[str]:
    """Yield ``name=address`` for each index with a name in uv's settings."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        yield from (part for part in os.environ.get(variable, "").split() if re.match(r"[\w-]+=", part))
    for table in _uv_tables():
        for index in table.get("index", ()):
            if isinstance(index, dict) and "name" in index:
                yield f"{index['name']}={index.get('url', '')}"


def _known_addresses() -> Iterator[str]:
    """Yield all addresses of indexes that may contain a login."""
    yield from map(with_login, _logins)
    settings = Indexes.of_settings()
    yield from (settings.default, *settings.extra, *settings.find_links)
    for name in _UV_VARIABLES:
        yield from (part.partition("=")[2] or part for part in re.split(r"[\s,]+", os.environ.get(name, "")))
    for table in _uv_tables():
        yield from re.findall(r"https?://[^\s'\"]+", repr(table))


def _netrc_login(host: str) -> str:
    import netrc

    # curl and pip read the second name, too, which people use on Windows.
    chosen = os.environ.get("NETRC")
    for file in (Path(chosen),) if chosen else (user_home() / ".netrc", user_home() / "_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if found := netrc.netrc(file).authenticators(host):
                return f"{found[0]}:{found[2]}"
    return ""


def _keyring_password(host: str, user: str) -> str:
    import subprocess

    command = shutil.which("keyring")
    if command is None:
        return ""
    try:
        answer = subprocess.run(
            [command, "get", host, user],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def redacted(text: str, indexes: Indexes | None = None) -> str:
    """Return the output of a tool without credentials."""
    text = without_login(text)
    for secret in (*(indexes.secrets() if indexes else ()), *_logins.values()):
        text = text.replace(secret, "***")
    return text


def _pip_settings() -> dict[str, str]:
    """Return pip's settings for installations, from its files and variables, later ones in place of earlier ones."""
    values: dict[str, str] = {}
    for file in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(decoded(file.read_bytes()))
        except (OSError, configparser.Error):
            continue
        for section in ("global", "install"):
            values |= dict(parser.items(section)) if parser.has_section(section) else {}
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            values[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return values


def _pip_files() -> Iterator[Path]:
    """Yield the paths of pip's settings, in the order in which pip reads them."""
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    home = user_home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    if sys.platform == "win32":
        yield from (Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"), "pip", "pip.ini"), home / "pip" / "pip.ini")
        yield from (Path(os.environ.get("APPDATA", home), "pip", "pip.ini"), Path(sys.prefix, "pip.ini"))
    else:
        yield from (Path(folder, "pip", "pip.conf") for folder in reversed(shared))
        yield from (Path("/Library/Application Support/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf")
        yield from (home / "Library/Application Support/pip/pip.conf", config / "pip" / "pip.conf")
        yield Path(sys.prefix, "pip.conf")
    if chosen:
        yield Path(chosen)


def _uv_has_indexes() -> bool:
    """Return whether uv's own settings name an index. They win over pip's."""
    if any(os.environ.get(name) for name in _UV_VARIABLES):
        return True
    return any(_UV_KEYS & (table.keys() | table.get("pip", {}).keys()) for table in _uv_tables())


def _uv_tables() -> Iterator[Mapping[str, Mapping[str, object]]]:
    for file, text in _uv_files():
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        yield table.get("tool", {}).get("uv", {}) if file.name == "pyproject.toml" else table


def _uv_config_texts() -> list[str]:
    """Return the parts of uv's settings files that decide which files a name means."""
    return [without_login(repr(sorted(table.items(), key=str))) for table in _uv_tables()]


def _uv_files() -> Iterator[tuple[Path, str]]:
    """Yield uv's settings files: of the user, of the machine, and of the project around the working directory."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or user_home() / ".config")
    chosen = os.environ.get("UV_CONFIG_FILE")
    shared = Path("/etc")
    if sys.platform == "win32":
        config = Path(os.environ.get("APPDATA", config))
        shared = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"))
    own = (config / "uv" / "uv.toml", shared / "uv" / "uv.toml")
    places = [Path(chosen)] if chosen else [*own, *_project_files()]
    for file in places:
        try:
            yield file, decoded(file.read_bytes())
        except OSError:
            continue


def _project_files() -> Iterator[Path]:
    try:
        here = Path.cwd()
    except OSError:
        # The working directory was deleted.
        return
    for folder in (here, *here.parents):
        yield folder / "uv.toml"
        yield folder / "pyproject.toml"
