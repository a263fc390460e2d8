"""The error for missing AWS credentials. It names half a key or a misspelt variable as the reason."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cloudknot.aws.sdk.settings.variables import CREDENTIALS

if TYPE_CHECKING:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError
    from botocore.session import Session

NO_CREDENTIALS = (
    "No AWS credentials were found{place}.{reason} To run on AWS, run `aws configure`, or set the environment "
    "variable AWS_PROFILE, or both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)
# The embedded cloud does not run on Windows.
if sys.platform != "win32":
    NO_CREDENTIALS += (
        ' To run on this machine without AWS, pass Knot(..., cloud="local") or set CLOUDKNOT_CLOUD=local.'
    )
HALF_A_KEY = (
    "The AWS access key {place} is incomplete: {missing} is missing. A key has two parts, aws_access_key_id and "
    "aws_secret_access_key. {fix}"
)
_PLACES = {
    "shared-credentials-file": ("in the AWS credentials file", "Add the missing line, or run `aws configure`."),
    "config-file": ("in the AWS config file", "Add the missing line, or run `aws configure`."),
    "env": ("in the environment variables", "Set the missing variable, or unset the other."),
}
"""Place and fix for half a key, by botocore's name of the provider of credentials."""


def check_key(session: Session) -> None:
    """Raise botocore's own error for a key of which one part is empty, as in ``aws_secret_access_key =``.

    botocore signs requests with such a key. Other providers are not asked, because that may send requests.
    """
    from botocore.credentials import RefreshableCredentials
    from botocore.exceptions import PartialCredentialsError

    credentials = session.get_credentials()
    # botocore itself has refused half a key with an expiry time. To read an expired one here would renew it.
    if credentials is None or credentials.method not in _PLACES or isinstance(credentials, RefreshableCredentials):
        return
    parts = {"aws_access_key_id": credentials.access_key, "aws_secret_access_key": credentials.secret_key}
    for name, part in parts.items():
        if not part:
            raise PartialCredentialsError(provider=credentials.method, cred_var=name)


def missing_credentials(error: NoCredentialsError | PartialCredentialsError, place: str) -> str:
    """Return problem, cause and fix for botocore's error. ``place`` is the cloud as `Cloud.place` describes it."""
    from botocore.exceptions import PartialCredentialsError

    if isinstance(error, PartialCredentialsError):
        provider, missing = str(error.kwargs["provider"]), str(error.kwargs["cred_var"])
        return _half_a_key(provider, missing)
    # botocore looks only for the id of a key, and takes a secret without one for nothing.
    if os.environ.get("AWS_SECRET_ACCESS_KEY") and not os.environ.get("AWS_ACCESS_KEY_ID"):
        return _half_a_key("env", "AWS_ACCESS_KEY_ID")
    if profile := _profile_with_secret_only():
        return _half_a_key("shared-credentials-file", "aws_access_key_id", f" (profile {profile!r})")
    return NO_CREDENTIALS.format(place=place and f" for {place}", reason=_reason())


def _half_a_key(provider: str, missing: str, profile: str = "") -> str:
    place, fix = _PLACES.get(provider, (f"from {provider}", "Add the missing part, or remove the key."))
    return HALF_A_KEY.format(place=f"{place}{profile}", missing=missing, fix=fix)


def _profile_with_secret_only() -> str:
    """Return the name of the profile in use if it has a secret key without its id; else an empty string."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    session = get_session()
    try:
        settings = session.get_scoped_config()
    except BotoCoreError:
        return ""
    half = "aws_secret_access_key" in settings and "aws_access_key_id" not in settings
    return str(session.get_config_variable("profile") or "default") if half else ""


def _reason() -> str:
    """Return a sentence on variables that look like credentials but that nothing reads; empty without any."""
    # Names in lower case are keys of AWS's files. Some other tools read the two short names.
    alike = {*(name.lower() for name in CREDENTIALS), "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "aws_profile"}
    found = sorted(alike & os.environ.keys())
    if not found:
        return ""
    verb = "are not names" if len(found) > 1 else "is not a name"
    return f" {' and '.join(found)} {verb} of environment variables that boto3 reads."
