"""Calls to AWS. This is the only package of the client that may import botocore and boto3.

`Cloud` describes where cloudknot runs. `Door` makes the calls, retries them and translates their errors. The first
call loads botocore. An import of this package does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

__all__ = ["Cloud"]

# Old notebooks write cloudknot.aws.DockerRepo. These classes moved out of this package, and are imported only on use.
_PLACES = {"Cloud": "cloudknot.aws.cloud", "BatchJob": "cloudknot", "DockerRepo": "cloudknot"}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_PLACES[name]), name)
