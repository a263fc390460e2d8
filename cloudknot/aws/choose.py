"""Choose the cloud: the argument, else the settings.

This is the client's one entry to the embedded cloud, so a session on AWS never loads it.
"""

from __future__ import annotations

from importlib import import_module

from cloudknot.aws.cloud import Cloud
from cloudknot.options import config

CLOUDS = {"aws": ("cloudknot.aws.cloud", "Cloud"), "local": ("cloudknot.local.cloud", "LocalCloud")}
"""The module and the class of each cloud that the settings can name."""


def choose_cloud(choice: Cloud | str | None = None) -> Cloud:
    """Return the cloud to use.

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
    module, name = CLOUDS[config.cloud(choice)]
    cloud: Cloud = getattr(import_module(module), name)()
    return cloud
