"""What the Batch engine keeps and passes on: jobs, attempts, tasks, events and actions.

All but `Job` and `Attempt` are frozen; those two are changed by the engine only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types_boto3_batch.type_defs import ContainerPropertiesOutputTypeDef


class Status(StrEnum):
    """The states of a Batch job, in order (AWS Batch user guide, "Job states")."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self in _ENDED

    @property
    def active(self) -> bool:
        """Whether an attempt of the job holds vCPUs."""
        return self in _ACTIVE


_ENDED = frozenset({Status.SUCCEEDED, Status.FAILED})
_ACTIVE = frozenset({Status.STARTING, Status.RUNNING})

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
HOST_LOST = "Host EC2 (instance i-00000000000000000) terminated."
"""The statusReason with which AWS reports that a job's host went away under it."""
TIMED_OUT = "Job attempt duration exceeded timeout"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
OVERRIDES_TOO_LONG = "Container Overrides length must be at most 8192"
TOO_MANY_VCPUS = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU "
    "requirement of the job."
)
"""The statusReason of a job that asks for more vCPUs than its compute environments may have (AWS Batch user guide,
"Jobs stuck in RUNNABLE due to misconfiguration")."""


@dataclass(frozen=True)
class ExitRule:
    """One entry of ``evaluateOnExit``; None matches anything."""

    action: str
    on_exit_code: str | None = None
    on_reason: str | None = None
    on_status_reason: str | None = None


@dataclass(frozen=True)
class RetryStrategy:
    attempts: int = 1
    rules: tuple[ExitRule, ...] = ()


@dataclass(frozen=True)
class Dependency:
    """``job_id`` is None for SEQUENTIAL; ``type`` is empty, ``SEQUENTIAL`` or ``N_TO_N``."""

    job_id: str | None
    type: str = ""


@dataclass(frozen=True)
class TimeLimit:
    """Seconds for which a job may be at the head of its queue with a reason not to start, before it is cancelled."""

    reason: str
    seconds: float


@dataclass(frozen=True)
class Queue:
    """A job queue and the compute environment that serves it."""

    name: str
    arn: str
    priority: int
    environment: str
    max_vcpus: float
    time_limits: tuple[TimeLimit, ...] = ()


def _no_container() -> ContainerPropertiesOutputTypeDef:
    return {}


@dataclass(frozen=True)
class JobSpec:
    """A job as it was submitted, with definition and overrides resolved."""

    name: str
    queue: Queue
    definition: str
    definition_name: str
    image: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    vcpus: float = 1
    resources: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    retry: RetryStrategy = RetryStrategy()
    timeout: int | None = None
    depends_on: tuple[Dependency, ...] = ()
    array_size: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    container: ContainerPropertiesOutputTypeDef = field(default_factory=_no_container)
    platform: str = "EC2"
    refused: str | None = None
    """Why the job goes to FAILED at once, although it was accepted."""


@dataclass(frozen=True)
class Task:
    """One attempt of one job, for a runner to run."""

    id: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_stream: str
    log_group: str = "/aws/batch/job"
    vcpus: float = 1
    memory: int | None = None
    """MiB."""
    user: str | None = None
    role: str | None = None
    """ARN of the job role."""
    init: bool = False
    """Whether an init process, which passes signals on and reaps, is the container's first."""


@dataclass(frozen=True)
class Started:
    """The task's process runs."""

    task_id: str


@dataclass(frozen=True)
class Exited:
    """The task has no process (any more).

    ``exit_code`` is None when there never was one to see; ``reason`` is the container's, as ECS words it.
    """

    task_id: str
    exit_code: int | None
    reason: str | None = None
    status_reason: str = EXITED


Event = Started | Exited


@dataclass(frozen=True)
class Start:
    task: Task


@dataclass(frozen=True)
class Stop:
    """SIGTERM to the task's processes, or SIGKILL."""

    task_id: str
    kill: bool


Action = Start | Stop


@dataclass(slots=True)
class Attempt:
    """One try of a job. Times are milliseconds since 1970."""

    task_id: str
    log_stream: str
    started: int | None = None
    stopped: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None


@dataclass(slots=True, eq=False)
class Job:
    """A job, an array's parent, or an array's child. Times are milliseconds since 1970."""

    id: str
    spec: JobSpec
    order: int
    created: int
    status: Status = Status.SUBMITTED
    reason: str | None = None
    started: int | None = None
    stopped: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    parent: Job | None = None
    index: int | None = None
    children: list[Job] = field(default_factory=list)
    summary: Counter[Status] = field(default_factory=Counter)
    waiting_for: int = 0
    dependents: list[Job] = field(default_factory=list)
    ending: str | None = None
    """The statusReason with which the running attempt is being stopped for good."""
    cancelled: bool = False
    terminated: bool = False
