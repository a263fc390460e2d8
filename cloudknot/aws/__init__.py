"""Wall 1: the only client code that imports boto3.

``Cloud`` is the seam, ``Door`` makes the calls and translates the errors. boto3 is loaded by the first call, never by
importing.
"""

from typing import Any

from cloudknot.aws.cloud import Cloud
from cloudknot.aws.ecr import DockerRepo

__all__ = ["Cloud", "DockerRepo"]


def __getattr__(name: str) -> Any:
    # Old notebooks write cloudknot.aws.BatchJob; the class itself is a stage above this wall.
    if name == "BatchJob":
        import sys

        return sys.modules["cloudknot"].BatchJob
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
