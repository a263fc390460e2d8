"""The user's AWS profile and region, as botocore reads them from AWS's variables and files. No network calls.

botocore reads the files itself, so a profile means the same here, in boto3 and in the AWS command line. In one thing
cloudknot follows the command line and not boto3: ``AWS_REGION`` wins over ``AWS_DEFAULT_REGION``, which is the only
variable of boto3.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws.sdk.settings.aws_files import check_readable, unusable_file
from cloudknot.aws.sdk.settings.variables import check_aws_variables
from cloudknot.errors import CloudknotConfigurationError, ProfileException
from cloudknot.options import config
from cloudknot.options.config import Chosen
from cloudknot.options.validators import near_matches

if TYPE_CHECKING:
    from botocore.exceptions import ConfigParseError, ProfileNotFound
    from botocore.session import Session


# In botocore's order.
_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")


class Profiles(NamedTuple):
    """The names of the AWS profiles on this machine, and the paths of their two files."""

    profile_names: list[str]
    credentials_file: str
    aws_config_file: str


def named_profile(argument: str | None = None) -> str | None:
    """Return the profile that an argument, `set_profile` or cloudknot's config file names; else None.

    boto3 finds a profile of the environment itself, and lets keys in the environment win over it.
    """
    name = argument or config.session_profile()
    if name is None and not _profile_variable() and not os.environ.get("AWS_ACCESS_KEY_ID"):
        # Access keys in the environment are a choice of the environment, so they win over cloudknot's config file.
        name = config.file_profile()
    return None if name == config.FROM_ENVIRONMENT else name


def profile(argument: str | None = None) -> str | None:
    """Return the AWS profile in use, or None if no argument, setting or variable names one."""
    return named_profile(argument) or _profile_variable()


def region(argument: str | None = None, profile: str | None = None) -> Chosen:
    """Return the AWS region to use and its source: from the settings, else from the AWS profile, else ``us-east-1``.

    Raises
    ------
    ProfileException
        No setting names a region, and the profile does not exist.
    CloudknotConfigurationError
        An AWS file cannot be parsed, or a variable resembles one that would name the region.
    """
    if chosen := config.region(argument):
        return chosen
    check_aws_variables()
    if found := _profile_settings(profile).get("region", "").strip():
        return Chosen(found, f"the AWS profile {profile or 'default'!r}")
    return Chosen(config.DEFAULT_REGION, config.BY_DEFAULT)


def list_profiles() -> Profiles:
    """Return the profiles in the AWS credentials and config files, and the paths of both files.

    The paths come from ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE``, if these are set. A missing file has
    no profiles.

    Raises
    ------
    CloudknotConfigurationError
        A file cannot be parsed.
    """
    from botocore.exceptions import ConfigParseError

    session = _session(None)
    credentials, settings = (_path(session, name) for name in ("credentials_file", "config_file"))
    for path in (credentials, settings):
        check_readable(path)
    try:
        return Profiles(session.available_profiles, credentials, settings)
    except ConfigParseError as error:
        raise file_error(error) from None


def uses_default_profile() -> bool:
    """Return whether boto3's own search for credentials uses the profile ``default``."""
    return not os.environ.get("AWS_ACCESS_KEY_ID") and "default" in list_profiles().profile_names


def file_error(error: ConfigParseError | ProfileNotFound) -> CloudknotConfigurationError:
    """Return the error that stands for botocore's ``ConfigParseError`` or ``ProfileNotFound``."""
    from botocore.exceptions import ConfigParseError

    if isinstance(error, ConfigParseError):
        return unusable_file(str(error.kwargs["path"]), str(error.kwargs.get("error", error)))
    return missing_profile(str(error.kwargs["profile"]))


def missing_profile(name: str) -> ProfileException:
    """Return the error for a profile that does not exist, with near matches and the source of the name."""
    names, credentials_file, config_file = list_profiles()
    if not name:
        return ProfileException(
            "The environment variable AWS_PROFILE or AWS_DEFAULT_PROFILE is set, but empty, which AWS's own tools "
            "take for the name of a profile. Unset it: `unset AWS_PROFILE AWS_DEFAULT_PROFILE`."
        )
    near = near_matches(name, names)
    title = "Near matches" if near else "Existing profiles"
    choice = f"{title}: {', '.join(near or names)}. Use one of these, or create" if names else "Create"
    variables = [variable for variable in _PROFILE_VARIABLES if os.environ.get(variable) == name]
    source = f" (from the environment variable {variables[0]})" if variables else ""
    return ProfileException(
        f"There is no AWS profile {name!r}{source} in {credentials_file} or {config_file}. {choice} the profile "
        f"with `aws configure --profile {name}`."
    )


def _profile_variable() -> str | None:
    return next((value for name in _PROFILE_VARIABLES if (value := os.environ.get(name))), None)


def _session(profile: str | None) -> Session:
    from botocore.session import Session as BotocoreSession

    # The handlers are for calls, and take ten times as long as the files.
    session = BotocoreSession(include_builtin_handlers=False)
    if profile is not None:
        session.set_config_variable("profile", profile)
    return session


def _profile_settings(profile: str | None) -> dict[str, str]:
    from botocore.exceptions import ConfigParseError, ProfileNotFound

    session = _session(profile)
    check_readable(_path(session, "config_file"))
    try:
        settings: dict[str, str] = session.get_scoped_config()
    except (ConfigParseError, ProfileNotFound) as error:
        raise file_error(error) from None
    return settings


def _path(session: Session, variable: str) -> str:
    # As botocore expands them.
    return os.path.expanduser(os.path.expandvars(str(session.get_config_variable(variable))))
