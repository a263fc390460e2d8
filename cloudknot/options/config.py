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

from cloudknot.errors import CloudknotConfigurationError, CloudknotInputError, refuse
from cloudknot.options.encodings import UTF_16, encoding_of
from cloudknot.options.validators import ACCOUNT, BOUNDARY, BUCKET, REPOSITORY, Rule, one_of
from cloudknot.options.variables import OF_SETTINGS, check_variables

if TYPE_CHECKING:
    from configparser import RawConfigParser

SECTION = "aws"
FROM_ENVIRONMENT = "from-env"
"""Name of no profile: boto3 searches for credentials."""
DEFAULT_REGION = "us-east-1"
DEFAULT_ECR_REPO = "cloudknot"
CLOUDS = ("aws", "local")
BUILDERS = ("engine", "codebuild")
BY_DEFAULT = "by default"
"""The source of a setting that nothing chose."""
RULES: Mapping[str, Rule[object]] = {
    "s3-bucket": BUCKET,
    "s3-bucket-owner": ACCOUNT,
    "s3-bucket-policy": BOUNDARY,
    "s3-sse": one_of("AES256", "aws:kms"),
    "ecr-repo": REPOSITORY,
}
"""The rules of settings that a variable or the config file may hold. The others are checked where they are used."""
LOCK_TIMEOUT = 10.0
"""Seconds that a writer of the config file waits for another writer."""

# The path is part of the key. A session that changes CLOUDKNOT_CONFIG_FILE has other settings from then on.
_session: dict[tuple[Path, str], str | None] = {}


class Chosen(NamedTuple):
    """A setting and its source, for messages."""

    value: str
    source: str
    """``"by default"``, or the argument, variable or file that chose the value."""


def session_profile() -> str | None:
    """Return the AWS profile that `cloudknot.set_profile` chose in this session, or None."""
    return _of_session("profile")


def file_profile() -> str | None:
    """Return the AWS profile that cloudknot's config file names, or None."""
    return _from_file("profile")


def region(argument: str | None = None) -> Chosen | None:
    """Return the AWS region that an argument or a setting names, or None if none does."""
    return _chosen("region", argument, "AWS_REGION", "AWS_DEFAULT_REGION")


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
    # The config file names the owner of its own bucket, and not of one that a variable names.
    if _of_session("s3-bucket") is None and _environment(OF_SETTINGS["s3-bucket"]):
        return _environment(OF_SETTINGS["s3-bucket-owner"])
    return _setting("s3-bucket-owner")


def bucket_policy() -> str | None:
    """Return the name or ARN of the user's own IAM policy for the bucket, or None. Jobs get it besides cloudknot's."""
    return _setting("s3-bucket-policy")


def permissions_boundary() -> str | None:
    """Return the name or ARN of the IAM policy that limits all roles of a Pars, or None."""
    return _setting("permissions-boundary")


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
    name = _setting("builder")
    if name is not None and name not in BUILDERS:
        raise CloudknotConfigurationError(
            f"The setting CLOUDKNOT_BUILDER is {name!r}, which is not 'engine' or 'codebuild'. Set the environment "
            f"variable CLOUDKNOT_BUILDER (or `builder` in {path()}) to one of them, or remove it to use a Docker "
            "engine if there is one, and AWS CodeBuild if there is none."
        )
    return name


def cloud(argument: str | None = None) -> Chosen:
    """Return the name of the cloud to use, ``"aws"`` (the default) or ``"local"``, and its source.

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
    name, source = _chosen("cloud", argument, OF_SETTINGS["cloud"]) or Chosen("aws", BY_DEFAULT)
    if name not in CLOUDS:
        raise CloudknotConfigurationError(
            f"The setting CLOUDKNOT_CLOUD is {name!r}, which is not 'aws' or 'local'. Set the environment variable "
            f"CLOUDKNOT_CLOUD (or `cloud` in {path()}) to one of them, or remove it to use AWS."
        )
    return Chosen(name, source)


def path() -> Path:
    """Return the path of the config file, which may not exist."""
    return Path(os.path.expanduser(_environment("CLOUDKNOT_CONFIG_FILE") or "~/.aws/cloudknot"))


def cache_folder() -> Path:
    """Return the folder of everything that cloudknot can make again: in ``XDG_CACHE_HOME``, else in ``~/.cache``.

    Raises
    ------
    CloudknotConfigurationError
        There is no home directory: ``HOME`` is not set, and the system does not know the user.
    """
    return _folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path:
    """Return the folder of everything to keep: in ``XDG_DATA_HOME``, else in ``~/.local/share``.

    Raises
    ------
    CloudknotConfigurationError
        There is no home directory: ``HOME`` is not set, and the system does not know the user.
    """
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, usual: str) -> Path:
    chosen = os.environ.get(variable, "")
    # XDG Base Directory Specification: a relative path is invalid and is to be ignored.
    return (Path(chosen) if os.path.isabs(chosen) else user_home() / usual) / "cloudknot"


def user_home() -> Path:
    """Return the home directory of the user.

    Raises
    ------
    CloudknotConfigurationError
        ``HOME`` is not set, and the system does not know the user.
    """
    try:
        return Path.home()
    except RuntimeError:
        # A container with `docker run --user 1234` has neither.
        raise CloudknotConfigurationError(
            "Your home directory is unknown: HOME is not set, and the system has no entry for your user id. "
            "Set HOME to a directory that you can write to, for example `export HOME=/tmp/me; mkdir -p $HOME`."
        ) from None


def directory(variable: str) -> Path | None:
    """Return the directory that an environment variable names, or None if it is not set.

    Raises
    ------
    CloudknotConfigurationError
        The path is relative. It would be another directory after each change of the working directory.
    """
    check_variables()
    if not (chosen := os.environ.get(variable)):
        return None
    expanded = os.path.expanduser(chosen)
    if not os.path.isabs(expanded):
        raise CloudknotConfigurationError(
            f"{variable}={chosen!r} is a relative path, which would be another directory in each working directory. "
            f"Set an absolute one, for example {variable}={os.path.abspath(expanded)!r}."
        )
    return Path(expanded)


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
            _replace(file, _with_values(_text(file), SECTION, values))
    except OSError as error:
        raise CloudknotConfigurationError(
            f"The config file {file} cannot be written. Make it writable, or set CLOUDKNOT_CONFIG_FILE to the path of "
            f"another file. The operating system reports: {error}"
        ) from error
    _session.update({(file, key): value for key, value in values.items()})


def _setting(key: str) -> str | None:
    found = _chosen(key, None, OF_SETTINGS[key])
    return None if found is None else _checked(key, found)


def _chosen(key: str, argument: str | None, *variables: str) -> Chosen | None:
    """Return the value of a setting and its source, or None if nothing sets it."""
    if argument:
        return Chosen(argument, f"{key}=")
    check_variables()
    # The session wins over the environment, because its set_... call came later and was deliberate.
    if value := _of_session(key):
        return Chosen(value, f"cloudknot.set_{key}(...)")
    for variable in variables:
        if value := _environment(variable):
            return Chosen(value, variable)
    if value := _from_file(key):
        return Chosen(value, str(path()))
    return None


def _checked(key: str, found: Chosen) -> str:
    """Return the value of a setting that satisfies its rule.

    Raises
    ------
    CloudknotConfigurationError
        It does not. The message names the variable or the file.
    """
    rule = RULES.get(key)
    if rule is None:
        return found.value
    name = key if found.source not in OF_SETTINGS.values() else found.source
    try:
        return str(rule(name, found.value))
    except CloudknotInputError as error:
        place = f"The setting is in {found.source}. " if name == key else ""
        problem, _, fix = str(error).partition("Pass ")
        raise CloudknotConfigurationError(f"{problem}{place}Set {fix}") from None


def _of_session(key: str) -> str | None:
    return _session.get((path(), key))


def _environment(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _from_file(key: str) -> str | None:
    value = _read(path()).get(SECTION, key, fallback="").strip()
    # Earlier versions of cloudknot wrote "None" for a setting without a value.
    return None if value in ("", "None") else value


def _read(file: Path) -> RawConfigParser:
    from configparser import Error, RawConfigParser

    parser = RawConfigParser(strict=False, default_section="", allow_no_value=True)
    try:
        parser.read_string(_text(file), str(file))
    except (Error, OSError) as error:
        raise CloudknotConfigurationError(
            f"The file {file} cannot be read. Correct or remove it. The error is: {error}"
        ) from None
    return parser


def _text(file: Path) -> str:
    """Return the text of the config file in any encoding of a text editor; empty if it does not exist."""
    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if data.startswith(UTF_16):
        return data.decode("utf-16", "replace")
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError:
        # Windows Notepad calls this "ANSI".
        return data.decode("cp1252", "replace")


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
