"""The constants of the model, each with its source.

The kind of a constant is one of:

* AWS: a number in AWS's documentation,
* paper: a number in the text of the cloudknot paper,
* fitted: chosen so that the model meets points that the paper published,
* assumed: no source was found. `sensitivity` shows the effect of another value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

KINDS = ("AWS", "paper", "fitted", "assumed")


def constant(value: float, unit: str, kind: str, source: str) -> Any:
    """Return a dataclass field with a default value, its unit, and the place that the value comes from."""
    assert kind in KINDS
    return field(default=value, metadata={"unit": unit, "kind": kind, "source": source})


@dataclass(frozen=True)
class BatchConstants:
    """AWS Batch on EC2 as it was for the paper in 2018: us-east-2, on-demand instances."""

    accept: float = constant(18.0, "s", "fitted", "smallest times on warm machines: 23 to 31 s")
    dispatch_rate: float = constant(40.0, "1/s", "AWS", "upper bound: ECS, Request throttling: RunTask, sustained")
    scaling_interval: float = constant(120.0, "s", "assumed", "users report waits of 10 s to 10 min")
    instance_start: float = constant(120.0, "s", "assumed", "EC2 boots in 26 s, then ECS must notice")
    instance_start_spread: float = constant(0.35, "", "assumed", "sigma of a log-normal distribution")
    image_pull: float = constant(20.0, "s", "fitted", "the custom line's first maps; once a machine")
    container_start: float = constant(3.0, "s", "assumed", "Docker alone takes 0.3 s, ECS more")
    worker_start: float = constant(2.0, "s", "assumed", "start Python, read program and input from S3")
    upload: float = constant(0.2, "s", "assumed", "one PutObject and the end of the container")
    slot_turnaround: float = constant(32.0, "s", "fitted", "slope of the default line, given one job a machine")
    instance_vcpus: int = constant(4, "", "assumed", "m4.xlarge, one of the types of `optimal`")
    instance_memory: int = constant(15_970, "MiB", "assumed", "twice the 7,985 MiB of an 8 GiB machine")
    job_vcpus: int = constant(1, "", "assumed", "cloudknot's default")
    job_memory: int = constant(8_000, "MiB", "assumed", "then one job fits a machine")
    requeue: float = constant(10.0, "s", "assumed", "from the loss of a machine to RUNNABLE")

    @property
    def slots(self) -> int:
        """The number of jobs that fit on an instance at the same time."""
        return int(min(self.instance_vcpus // self.job_vcpus, self.instance_memory // self.job_memory))

    @property
    def one_child(self) -> float:
        """The seconds from SubmitJob to the end of a child without elements, on a warm machine."""
        before = self.accept + 1 / self.dispatch_rate
        return before + self.container_start + self.worker_start + self.upload


@dataclass(frozen=True)
class LambdaConstants:
    """AWS Lambda with PyWren as it was for the paper in 2018."""

    invocation_rate: float = constant(50.0, "1/s", "fitted", "slope of PyWren's line above 1,024 arguments")
    cold_start: float = constant(18.0, "s", "fitted", "PyWren's plateau: new containers set up Python")
    warm_start: float = constant(2.3, "s", "fitted", "PyWren's times with 2 arguments, and with small grids")
    slowdown: float = constant(2.7, "", "fitted", "PyWren's and cloudknot's times at 100 x 100 and 125 x 125")
    concurrency: int = constant(1_000, "", "AWS", "Lambda quotas: concurrent executions")
    time_limit: float = constant(300.0, "s", "paper", "footnote 1")
    memory_limit: float = constant(1_536.0, "MiB", "paper", "footnote 1: 1.5 GB")


@dataclass(frozen=True)
class HeatConstants:
    """The paper's function: plain Python loops over the points of a grid."""

    point: float = constant(1.65e-6, "s", "fitted", "cloudknot's times from 100 x 100 to 175 x 175")


class Row(NamedTuple):
    """A constant as a row of the table in the documentation."""

    name: str
    value: str
    kind: str
    source: str


def rows() -> Iterator[Row]:
    """Yield all constants."""
    for group in (BatchConstants, LambdaConstants, HeatConstants):
        for item in fields(group):
            number = item.default
            text = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
            unit = item.metadata["unit"]
            name = f"{group.__name__.removesuffix('Constants').lower()}.{item.name}"
            yield Row(name, f"{text} {unit}".strip(), item.metadata["kind"], item.metadata["source"])
