"""Calls to AWS. This is the only package of the client that may import botocore and boto3.

`Cloud` describes where cloudknot runs. `Door` makes the calls, retries them and translates their errors. The first
call loads botocore. An import of this package does not.

Scripts for the earlier cloudknot find their names here: the classes, the settings, the exceptions, and ``clients``, as
in ``cloudknot.aws.clients["s3"]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.aws import clients as clients
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.sdk.earlier import get_tags as get_tags
    from cloudknot.aws.sdk.earlier import get_user as get_user
    from cloudknot.aws.settings import *  # noqa: F403
    from cloudknot.errors import *  # noqa: F403

__all__ = ["Cloud"]

_SETTINGS = ("ecr_repo", "profile", "region", "s3_params")
# Each name loads its module at its first use. The classes and settings are those of the package cloudknot itself.
_PLACES = {
    "Cloud": "cloudknot.aws.cloud",
    **dict.fromkeys(("get_tags", "get_user"), "cloudknot.aws.sdk.earlier"),
    **dict.fromkeys(("BatchJob", "DockerRepo", "list_profiles", "refresh_clients"), "cloudknot"),
    **{f"get_{setting}": "cloudknot" for setting in _SETTINGS},
    **{f"set_{setting}": "cloudknot" for setting in _SETTINGS},
}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name == "clients":
            return import_module("cloudknot.aws.clients")
        errors = import_module("cloudknot.errors")
        if name in errors.__all__:
            return getattr(errors, name)
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_PLACES, *import_module("cloudknot.errors").__all__, "clients"])
