"""Wall 1: the only client code that imports boto3.

``Cloud`` is the seam, ``Door`` makes the calls and translates the errors. boto3 is loaded by the first call, never by
importing.
"""

from typing import Any

from cloudknot.aws.cloud import Cloud

__all__ = ["Cloud"]


def __getattr__(name: str) -> Any:
    # Old notebooks write cloudknot.aws.DockerRepo; the classes themselves are stages above this wall.
    if name in ("BatchJob", "DockerRepo"):
        import sys

        return getattr(sys.modules["cloudknot"], name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
