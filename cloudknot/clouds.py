"""Which cloud: the argument, else the settings."""

from __future__ import annotations

from cloudknot import config
from cloudknot.aws import Cloud
from cloudknot.local import LocalCloud


def choose_cloud(choice: Cloud | str | None = None) -> Cloud:
    """The cloud to use.

    Parameters
    ----------
    choice : Cloud or {"aws", "local"}, optional
        Default: ``CLOUDKNOT_CLOUD``, else the config file, else AWS.

    Raises
    ------
    CloudknotInputError
        It is neither.
    """
    if isinstance(choice, Cloud):
        return choice
    return LocalCloud() if config.cloud(choice) == "local" else Cloud()
