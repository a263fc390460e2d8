"""Settings, resolved in one order: argument > this session > environment > config file > default.

This module is what the code asks. The utilities for people, ``get_...`` and ``set_...``, are in
`cloudknot.aws.settings`, because some of them ask AWS.

"This session" is what the ``set_...`` functions of `cloudknot.aws.settings` were told in this process; they also write
it to the config file. Reading a setting never creates anything, and nothing here calls a cloud.

The config file is ``~/.aws/cloudknot`` (``CLOUDKNOT_CONFIG_FILE`` names another), an ini file with a section
``[aws]``. Whatever else is in it is kept as it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.errors import CloudknotConfigurationError, CloudknotInputError

if TYPE_CHECKING:
    from configparser import RawConfigParser

SECTION = "aws"
FROM_ENVIRONMENT = "from-env"
"""A profile of this name means: no profile, let boto3 search for credentials."""
DEFAULT_REGION = "us-east-1"
DEFAULT_ECR_REPO = "cloudknot"
CLOUDS = ("aws", "local")
LOCK_TIMEOUT = 10.0
"""Seconds that a writer of the config file waits for another one."""

_session: dict[tuple[Path, str], str | None] = {}


class Profiles(NamedTuple):
    """The AWS profiles of this machine, and the files they are in."""

    profile_names: list[str]
    credentials_file: str
    aws_config_file: str


def profile(argument: str | None = None) -> str | None:
    """The AWS profile to use; None leaves the search for credentials to boto3.

    Access keys in the environment count as the environment's choice, so they win over the config file's profile.
    """
    found = argument or _first(_chosen("profile"), _environment("AWS_PROFILE", "AWS_DEFAULT_PROFILE"))
    if found is None and not _environment("AWS_ACCESS_KEY_ID"):
        found = _from_file("profile")
    return None if found == FROM_ENVIRONMENT else found


def region(argument: str | None = None, profile: str | None = None) -> str:
    """The AWS region to use; ``us-east-1`` when neither a setting nor the profile names one."""
    return (
        argument
        or _setting("region", "AWS_REGION", "AWS_DEFAULT_REGION")
        or _profile_region(profile or "default")
        or DEFAULT_REGION
    )


def endpoint_url(argument: str | None = None) -> str | None:
    """The server to call in place of AWS; None is AWS."""
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return argument or (None if ignored else _environment("AWS_ENDPOINT_URL"))


def bucket(argument: str | None = None) -> str | None:
    """The S3 bucket chosen for inputs and results; None when nobody chose one."""
    return argument or _setting("s3-bucket")


def bucket_policy() -> str | None:
    """Name or ARN of the policy that jobs get for that bucket besides cloudknot's own; None when nobody chose one."""
    return _setting("s3-bucket-policy")


def sse() -> str | None:
    """The server-side encryption to ask for with each object; None leaves it to the bucket."""
    return _setting("s3-sse")


def ecr_repo(argument: str | None = None) -> str:
    """The image repository to use, ``"cloudknot"`` by default."""
    return argument or _setting("ecr-repo") or DEFAULT_ECR_REPO


def cloud(argument: str | None = None) -> str:
    """Which cloud to use: ``"aws"`` (the default) or ``"local"``.

    Raises
    ------
    CloudknotInputError
        The argument is neither.
    CloudknotConfigurationError
        ``CLOUDKNOT_CLOUD`` or the config file says neither.
    """
    if argument is not None and argument not in CLOUDS:
        raise CloudknotInputError(f'cloud={argument!r} is not accepted. Give cloud="aws", cloud="local" or a Cloud.')
    found = argument or _setting("cloud", "CLOUDKNOT_CLOUD") or "aws"
    if found not in CLOUDS:
        raise CloudknotConfigurationError(
            f"The setting CLOUDKNOT_CLOUD is {found!r}. Set it to 'aws' or 'local', or unset it (which means 'aws')."
        )
    return found


def list_profiles() -> Profiles:
    """The profiles in the AWS credentials and config files, and where those files are.

    ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE`` are honoured. A file that does not exist has no profiles.
    """
    credentials = _aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    settings = _aws_file("AWS_CONFIG_FILE", "config")
    names = dict.fromkeys(_read(credentials).sections())
    for section in _read(settings).sections():
        kind, _, name = section.partition(" ")
        if section == "default" or (kind == "profile" and name):
            names[name.strip() or section] = None
    return Profiles(list(names), str(credentials), str(settings))


def uses_default_profile() -> bool:
    """Whether boto3's own search for credentials comes to the profile ``default``."""
    return not _environment("AWS_ACCESS_KEY_ID") and "default" in list_profiles().profile_names


def path() -> Path:
    """Where the config file is; it need not exist."""
    return Path(_environment("CLOUDKNOT_CONFIG_FILE") or Path("~/.aws/cloudknot")).expanduser()


def save(values: Mapping[str, str | None]) -> None:
    """Write settings to the config file and use them in this session from now on.

    None removes a setting. Other settings, sections and comments stay as they are; writers at the same time are
    served one after the other, and a reader sees the file before or after, never in between.

    Raises
    ------
    CloudknotConfigurationError
        The file cannot be read or written.
    """
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(file):
            _read(file)
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            _replace(file, _with_values(text, SECTION, values))
    except OSError as error:
        raise CloudknotConfigurationError(
            f"The config file {file} cannot be written: {error}. "
            "Correct that, or name another file in CLOUDKNOT_CONFIG_FILE."
        ) from error
    _session.update({(file, key): value for key, value in values.items()})


def _setting(key: str, *variables: str) -> str | None:
    return _first(_chosen(key), _environment(*variables), _from_file(key))


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value), None)


def _chosen(key: str) -> str | None:
    return _session.get((path(), key))


def _environment(*names: str) -> str | None:
    return _first(*(os.environ.get(name) for name in names))


def _from_file(key: str) -> str | None:
    value = _read(path()).get(SECTION, key, fallback="").strip()
    return None if value in ("", "None") else value


def _profile_region(profile: str) -> str | None:
    parser = _read(_aws_file("AWS_CONFIG_FILE", "config"))
    section = profile if profile == "default" else f"profile {profile}"
    return parser.get(section, "region", fallback="").strip() or None


def _aws_file(variable: str, name: str) -> Path:
    return Path(_environment(variable) or Path("~/.aws", name)).expanduser()


def _read(file: Path) -> RawConfigParser:
    from configparser import Error, RawConfigParser

    parser = RawConfigParser(strict=False, default_section="", allow_no_value=True)
    try:
        with open(file, encoding="utf-8") as stream:
            parser.read_file(stream)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (Error, UnicodeDecodeError, OSError) as error:
        raise CloudknotConfigurationError(f"The file {file} cannot be read: {error}. Correct or remove it.") from error
    return parser


def _with_values(text: str, section: str, values: Mapping[str, str | None]) -> str:
    """The ini text with ``values`` set in ``section``; every other line is kept."""
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
    if start is None:
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        start = len(lines) - 1
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("[")), len(lines))
    kept = list(_without_keys(lines[start + 1 : end], values))
    blank = next((n for n, line in enumerate(reversed(kept)) if line.strip()), len(kept))
    kept[len(kept) - blank : len(kept) - blank] = [f"{key} = {value}" for key, value in values.items() if value]
    return "\n".join([*lines[: start + 1], *kept, *lines[end:], ""])


def _without_keys(lines: list[str], keys: Mapping[str, object]) -> Iterator[str]:
    dropping = False
    for line in lines:
        continued = line[:1].isspace() and bool(line.strip())
        if not continued:
            dropping = line.replace(":", "=", 1).partition("=")[0].strip().lower() in keys
        if not dropping:
            yield line


def _replace(file: Path, text: str) -> None:
    import tempfile

    target = file.resolve()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other writers of ``file`` out for the block."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{file}.lock", timeout=LOCK_TIMEOUT, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout as error:
        raise TimeoutError(f"another process holds {lock.lock_file} for over {LOCK_TIMEOUT:g} s") from error
    try:
        yield
    finally:
        lock.release()
