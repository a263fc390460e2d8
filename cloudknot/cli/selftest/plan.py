"""The plan of a check: the names of its resources, the sizes of its jobs, and its cost. No I/O."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

# USD in us-east-1, November 2026. AWS's pricing pages "AWS Fargate" (Linux/x86), "Amazon EC2 on-demand" (r6i.large,
# the dearest of `SPOT_TYPES`), "Amazon VPC" (public IPv4 addresses) and "Amazon EBS" (gp3).
FARGATE_VCPU_HOUR, FARGATE_GIB_HOUR = 0.04048, 0.004445
EC2_VCPU_HOUR = 0.126 / 2
ADDRESS_HOUR = 0.005
DISK_HOUR = 30 * 0.08 / 730
REQUESTS_AND_STORAGE = 0.01
"""A generous share for some hundred requests to S3, logs of a few kB, and an image of 100 MB for an hour."""
DEAREST_REGION = 2.0
"""Factor for the dearest regions."""

FARGATE_JOBS = 12
"""Child jobs on Fargate: six of the map, four of the map that fails, one of its retry, and one of the reduce."""
SPOT_JOBS = 4
SPOT_TYPES = ("m5.large", "m6i.large", "m7i.large", "c5.large", "c6i.large", "c7i.large", "r6i.large")
"""Small machines with two vCPUs, so that one of them too many costs little. The check uses those of the region."""
SPOT_VCPUS = 2


@dataclass(frozen=True)
class Plan:
    """One check. All names contain ``token``, which no other check has."""

    token: str = field(default_factory=lambda: f"selftest-{secrets.token_hex(4)}")
    attempt_seconds: int = 300
    """Timeout of each attempt of a job, which bounds the cost."""
    result_seconds: float = 1800.0
    """Longest wait for the results of a map: AWS may need minutes to find a Spot machine."""

    @property
    def fargate(self) -> str:
        """The knot on Fargate."""
        return f"{self.token}-fargate"

    @property
    def spot(self) -> str:
        """The knot on EC2 Spot."""
        return f"{self.token}-spot"

    @property
    def knots(self) -> tuple[str, str]:
        return self.fargate, self.spot

    @property
    def pars(self) -> str:
        return self.token

    @property
    def repository(self) -> str:
        return f"cloudknot-{self.token}"


@dataclass(frozen=True)
class Cost:
    """The cost of a check in USD, by its own number of jobs and the prices above."""

    usual: float
    """In us-east-1, if each job on Fargate takes a minute, and the Spot machine runs for ten."""
    most: float
    """In the dearest region, if each job takes ten minutes, and two machines run for an hour on demand."""


def cost() -> Cost:
    """Return the cost of a check: Fargate's jobs, the machines on EC2, and a share for the rest."""
    job_hour = FARGATE_VCPU_HOUR + 2 * FARGATE_GIB_HOUR + ADDRESS_HOUR
    machine_hour = SPOT_VCPUS * EC2_VCPU_HOUR + ADDRESS_HOUR + DISK_HOUR
    usual = FARGATE_JOBS * job_hour / 60 + machine_hour / 6
    # Batch may start one machine more than max_vcpus allows (Batch API reference, ComputeResource, maxvCpus).
    most = FARGATE_JOBS * job_hour / 6 + 2 * machine_hour
    return Cost(usual + REQUESTS_AND_STORAGE, DEAREST_REGION * (most + REQUESTS_AND_STORAGE))
