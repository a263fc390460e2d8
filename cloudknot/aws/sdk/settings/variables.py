"""AWS's environment variables, and names that resemble them: a misspelt variable has no effect and gives no error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import SequenceMatcher

from cloudknot.errors import CloudknotConfigurationError

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
CHOICES = (
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"),
    *("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL"),
)
"""Variables that choose the account, the region or the server of all calls, beside `CREDENTIALS`."""
# AWS SDKs and tools reference guide, "Supported environment variables"; botocore and AWS's other tools read more.
OTHERS = frozenset(
    {
        *("AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_ACCOUNT_ID", "AWS_CA_BUNDLE"),
        *("AWS_CREDENTIAL_FILE", "AWS_CREDENTIAL_EXPIRATION", "AWS_CREDENTIALS_FILE", "AWS_DEFAULT_OUTPUT"),
        *("AWS_SDK_LOAD_CONFIG", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    }
)
"""Names that resemble `CHOICES` or `CREDENTIALS`, and that other tools read."""
SIMILARITY = 0.9
"""Share of equal characters, from which a name counts as a misspelt one. AWS_REGOIN has 0.9."""


def misspelt(names: Iterable[str] = (*CHOICES, *CREDENTIALS)) -> dict[str, str]:
    """Return the misspelt variables of this process, with the names from ``names`` that they resemble.

    A variable whose right name is set as well has an effect elsewhere, and does not count.
    """
    wanted = [name for name in names if name not in os.environ]
    known = {*CHOICES, *CREDENTIALS, *OTHERS}
    return {
        variable: near
        for variable in os.environ
        if variable.startswith("AWS") and variable not in known and (near := _nearest(variable, wanted))
    }


def check_aws_variables() -> None:
    """Raise `CloudknotConfigurationError` for a variable whose name resembles that of a choice for AWS.

    AWS's tools ignore it, so calls would silently go to another region or account.
    """
    for variable, near in misspelt().items():
        raise CloudknotConfigurationError(
            f"AWS's tools do not read the environment variable {variable}, so it has no effect. Its name resembles "
            f'{near}. Rename it: `export {near}="${variable}"; unset {variable}`.'
        )


def _nearest(variable: str, names: Iterable[str]) -> str:
    """Return the name that a variable most resembles; empty if it resembles none."""
    rated = [(SequenceMatcher(None, variable, name).ratio(), name) for name in names if not _extends(variable, name)]
    ratio, name = max(rated, default=(0.0, ""))
    return name if ratio >= SIMILARITY else ""


def _extends(variable: str, name: str) -> bool:
    """Return whether a variable is a name with something added, such as AWS_REGIONS or AWS_ACCESS_KEY_ID_2."""
    # People give such names to variables of their own.
    return variable.startswith(name)
