"""Settings, resolved in one order: argument > this session > environment > config file > default.

"This session" holds the values that the ``set_...`` functions of `cloudknot.aws.settings` saved in this process. They
also write these values to the config file. The public functions ``get_...`` and ``set_...`` are in that module because
some of them call AWS. Nothing in this module calls a cloud, and reading a setting creates nothing.

The config file is ``~/.aws/cloudknot``, or the file that ``CLOUDKNOT_CONFIG_FILE`` names. It is an ini file with a
section ``[aws]``. All other content is preserved.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.errors import CloudknotConfigurationError, refuse

if TYPE_CHECKING:
    from configparser import RawConfigParser

SECTION = "aws"
FROM_ENVIRONMENT = "from-env"
"""Name of no profile: boto3 searches for credentials."""
DEFAULT_REGION = "us-east-1"
DEFAULT_ECR_REPO = "cloudknot"
CLOUDS = ("aws", "local")
BUILDERS = ("engine", "codebuild")
LOCK_TIMEOUT = 10.0
"""Seconds that a writer of the config file waits for another writer."""

# The path is part of the key. A session that changes CLOUDKNOT_CONFIG_FILE has other settings from then on.
_session: dict[tuple[Path, str], str | None] = {}


class Profiles(NamedTuple):
    """The names of the AWS profiles on this machine, and the paths of their two files."""

    profile_names: list[str]
    credentials_file: str
    aws_config_file: str


def profile(argument: str | None = None) -> str | None:
    """Return the AWS profile to use, or None if boto3 searches for credentials itself."""
    name = argument or _first(_of_session("profile"), _environment("AWS_PROFILE", "AWS_DEFAULT_PROFILE"))
    # Access keys in the environment are a choice of the environment, so they win over the profile in the config file.
    if name is None and not _environment("AWS_ACCESS_KEY_ID"):
        name = _from_file("profile")
    return None if name == FROM_ENVIRONMENT else name


def region(argument: str | None = None, profile: str | None = None) -> str:
    """Return the AWS region to use: from the settings, else from the AWS profile, else ``us-east-1``."""
    return (
        argument
        or _setting("region", "AWS_REGION", "AWS_DEFAULT_REGION")
        or _profile_region(profile or "default")
        or DEFAULT_REGION
    )


def endpoint_url(argument: str | None = None) -> str | None:
    """Return the address of the server to call in place of AWS, or None for AWS."""
    # boto3 and the AWS command line obey both variables in the same way.
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return argument or (None if ignored else _environment("AWS_ENDPOINT_URL"))


def bucket(argument: str | None = None) -> str | None:
    """Return the S3 bucket for inputs and results, or None if the user chose none."""
    return argument or _setting("s3-bucket")


def bucket_owner() -> str | None:
    """Return the number of the other AWS account that owns the bucket of `bucket`, or None if the user named none."""
    return _setting("s3-bucket-owner")


def bucket_policy() -> str | None:
    """Return the name or ARN of the user's own IAM policy for the bucket, or None. Jobs get it besides cloudknot's."""
    return _setting("s3-bucket-policy")


def permissions_boundary() -> str | None:
    """Return the name or ARN of the IAM policy that limits all roles of a Pars, or None."""
    return _setting("permissions-boundary", "CLOUDKNOT_PERMISSIONS_BOUNDARY")


def sse() -> str | None:
    """Return the server-side encryption for each stored object, or None for the default of the bucket."""
    return _setting("s3-sse")


def ecr_repo(argument: str | None = None) -> str:
    """Return the name of the image repository, ``"cloudknot"`` by default."""
    return argument or _setting("ecr-repo") or DEFAULT_ECR_REPO


def builder() -> str | None:
    """Return the builder of images in which something must run: ``"engine"``, ``"codebuild"``, or None for either.

    Raises
    ------
    CloudknotConfigurationError
        ``CLOUDKNOT_BUILDER`` or the config file contains another name.
    """
    name = _setting("builder", "CLOUDKNOT_BUILDER")
    if name is not None and name not in BUILDERS:
        raise CloudknotConfigurationError(
            f"The setting CLOUDKNOT_BUILDER is {name!r}, which is not 'engine' or 'codebuild'. Set the environment "
            f"variable CLOUDKNOT_BUILDER (or `builder` in {path()}) to one of them, or remove it to use a Docker "
            "engine if there is one, and AWS CodeBuild if there is none."
        )
    return name


def cloud(argument: str | None = None) -> str:
    """Return the name of the cloud to use: ``"aws"`` (the default) or ``"local"``.

    Raises
    ------
    CloudknotInputError
        The argument is another name.
    CloudknotConfigurationError
        ``CLOUDKNOT_CLOUD`` or the config file contains another name.
    """
    if argument is not None and argument not in CLOUDS:
        refuse(
            problem=f"cloud={argument!r} is not 'aws', 'local' or a Cloud object.",
            fix="Pass cloud='aws' or cloud='local'.",
        )
    name = argument or _setting("cloud", "CLOUDKNOT_CLOUD") or "aws"
    if name not in CLOUDS:
        raise CloudknotConfigurationError(
            f"The setting CLOUDKNOT_CLOUD is {name!r}, which is not 'aws' or 'local'. Set the environment variable "
            f"CLOUDKNOT_CLOUD (or `cloud` in {path()}) to one of them, or remove it to use AWS."
        )
    return name


def list_profiles() -> Profiles:
    """Return the profiles in the AWS credentials and config files, and the paths of both files.

    The paths come from ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE``, if these are set. A missing file has
    no profiles.
    """
    credentials = _aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    settings = _aws_file("AWS_CONFIG_FILE", "config")
    names = dict.fromkeys(_read(credentials).sections())
    # The config file has sections such as "profile lab" and "sso-session lab"; only "default" stands for itself.
    for section in _read(settings).sections():
        kind, _, name = section.partition(" ")
        if section == "default" or (kind == "profile" and name):
            names[name.strip() or section] = None
    return Profiles(list(names), str(credentials), str(settings))


def uses_default_profile() -> bool:
    """Return whether boto3's own search for credentials uses the profile ``default``."""
    return not _environment("AWS_ACCESS_KEY_ID") and "default" in list_profiles().profile_names


def path() -> Path:
    """Return the path of the config file, which may not exist."""
    return Path(_environment("CLOUDKNOT_CONFIG_FILE") or Path("~/.aws/cloudknot")).expanduser()


def cache_folder() -> Path:
    """Return the folder of everything that cloudknot can make again: in ``XDG_CACHE_HOME``, else in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudknot"


def save(values: Mapping[str, str | None]) -> None:
    """Write settings to the config file, and use them in this session from now on.

    None removes a setting. Other settings, sections and comments are preserved. Concurrent writers take turns, and a
    reader sees either the old or the new file.

    Raises
    ------
    CloudknotConfigurationError
        The file cannot be read or written.
    """
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(file):
            # A file that is not in ini format raises here and is never overwritten.
            _read(file)
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            _replace(file, _with_values(text, SECTION, values))
    except OSError as error:
        raise CloudknotConfigurationError(
            f"The config file {file} cannot be written. Make it writable, or set CLOUDKNOT_CONFIG_FILE to the path of "
            f"another file. The operating system reports: {error}"
        ) from error
    _session.update({(file, key): value for key, value in values.items()})


def _setting(key: str, *variables: str) -> str | None:
    # The session wins over the environment, because its set_... call came later and was deliberate.
    return _first(_of_session(key), _environment(*variables), _from_file(key))


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value), None)


def _of_session(key: str) -> str | None:
    return _session.get((path(), key))


def _environment(*names: str) -> str | None:
    return _first(*(os.environ.get(name) for name in names))


def _from_file(key: str) -> str | None:
    value = _read(path()).get(SECTION, key, fallback="").strip()
    # Earlier versions of cloudknot wrote "None" for a setting without a value.
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
        raise CloudknotConfigurationError(
            f"The file {file} cannot be read. Correct or remove it. The error is: {error}"
        ) from error
    return parser


def _with_values(text: str, section: str, values: Mapping[str, str | None]) -> str:
    """Return the ini text with ``values`` set in ``section``, and all other lines unchanged."""
    # configparser would drop the comments, so the text is edited line by line.
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip() == f"[{section}]"), None)
    if start is None:
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        start = len(lines) - 1
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("[")), len(lines))
    body = list(_without_keys(lines[start + 1 : end], values))
    # New settings go before the blank lines at the end, which separate this section from the next.
    blank = next((n for n, line in enumerate(reversed(body)) if line.strip()), len(body))
    body[len(body) - blank : len(body) - blank] = [f"{key} = {value}" for key, value in values.items() if value]
    return "\n".join([*lines[: start + 1], *body, *lines[end:], ""])


def _without_keys(lines: list[str], keys: Mapping[str, object]) -> Iterator[str]:
    dropping = False
    for line in lines:
        # In an ini file, an indented line continues the value before it, so it goes with its key.
        continued = line[:1].isspace() and bool(line.strip())
        if not continued:
            dropping = line.replace(":", "=", 1).partition("=")[0].strip().lower() in keys
        if not dropping:
            yield line


def _replace(file: Path, text: str) -> None:
    import tempfile

    # The file may be a link into a folder of dotfiles. os.replace would replace the link itself.
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
    """Hold the lock of ``file``, so other writers wait until the block ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{file}.lock", timeout=LOCK_TIMEOUT, poll_interval=0.02)
    try:
        lock.acquire()
    except Timeout as error:
        raise TimeoutError(f"another process has held {lock.lock_file} for over {LOCK_TIMEOUT:g} s") from error
    try:
        yield
    finally:
        lock.release()
