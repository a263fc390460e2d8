"""The machines of CodeBuild for each platform, and their prices. Data only."""

from __future__ import annotations

import math
from typing import NamedTuple


class BuildMachine(NamedTuple):
    """A machine of CodeBuild.

    ``kind`` and ``image`` have CodeBuild's names (CodeBuild user guide, "Docker images provided by CodeBuild").
    """

    kind: str
    image: str
    dollars: float
    """Price of a minute in us-east-1 (aws.amazon.com/codebuild/pricing, on-demand, "small"). Other regions differ."""


MACHINES = {
    "linux/amd64": BuildMachine("LINUX_CONTAINER", "aws/codebuild/amazonlinux2-x86_64-standard:5.0", 0.005),
    "linux/arm64": BuildMachine("ARM_CONTAINER", "aws/codebuild/amazonlinux2-aarch64-standard:3.0", 0.0034),
}
"""The machine for each platform. A build for the machine's own architecture needs no emulation."""


def estimate(machine: BuildMachine, seconds: float) -> str:
    """Return the duration and the price of a build, in words. AWS bills each begun minute."""
    minutes = max(1, math.ceil(seconds / 60))
    return f"{minutes} minute{'s' * (minutes > 1)}, about ${minutes * machine.dollars:.3f}"
