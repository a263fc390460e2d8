"""AWS: the only client code that imports boto3.

``Cloud`` is the seam, ``Door`` makes the calls and translates the errors. boto3 is loaded by the first call, never by
importing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

__all__ = ["Cloud"]

# Old notebooks write cloudknot.aws.DockerRepo; these classes are stages above this wall.
_PLACES = {"Cloud": "cloudknot.aws.cloud", "BatchJob": "cloudknot", "DockerRepo": "cloudknot"}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_PLACES[name]), name)
