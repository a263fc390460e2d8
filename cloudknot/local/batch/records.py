"""The data classes of the Batch engine: jobs, attempts, tasks, events and actions.

Only the engine changes a `Job` or an `Attempt`. All other classes are frozen.
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
        """Whether the state is SUCCEEDED or FAILED."""
        return self in _ENDED

    @property
    def active(self) -> bool:
        """Whether an attempt of the job holds vCPUs."""
        return self in _ACTIVE


_ENDED = frozenset({Status.SUCCEEDED, Status.FAILED})
_ACTIVE = frozenset({Status.STARTING, Status.RUNNING})

# Texts of AWS, word for word: job definitions match them in evaluateOnExit, and cloudknot explains failures by them.
EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"
HOST_LOST = "Host EC2 (instance i-00000000000000000) terminated."
"""AWS's statusReason for a job on a terminated instance. cloudknot's retry rule matches ``Host EC2*``."""
HOST_OF_EARLIER_PROCESS = "Host EC2 (instance i-{id:017x}) terminated."
"""The statusReason of the attempts that ran when an earlier server process ended. ``id`` is that of the process."""
TIMED_OUT = "Job attempt duration exceeded timeout"
DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
OVERRIDES_TOO_LONG = "Container Overrides length must be at most 8192"
TOO_MANY_VCPUS = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU "
    "requirement of the job."
)
"""The statusReason of a job that requests more vCPUs than its compute environments may have.

See the AWS Batch user guide, "Jobs stuck in RUNNABLE due to misconfiguration".
"""


@dataclass(frozen=True)
class ExitRule:
    """One entry of ``evaluateOnExit``. A pattern of None matches anything."""

    action: str
    on_exit_code: str | None = None
    on_reason: str | None = None
    on_status_reason: str | None = None


@dataclass(frozen=True)
class RetryStrategy:
    """The ``retryStrategy`` of a job. ``attempts`` counts the first one, too."""

    attempts: int = 1
    rules: tuple[ExitRule, ...] = ()


@dataclass(frozen=True)
class Dependency:
    """One entry of ``dependsOn``.

    ``type`` is empty, ``SEQUENTIAL`` or ``N_TO_N``. ``job_id`` is None for SEQUENTIAL.
    """

    job_id: str | None
    type: str = ""


@dataclass(frozen=True)
class TimeLimit:
    """A queue's limit for jobs that cannot start for ``reason``.

    Batch cancels such a job after ``seconds`` at the head of its queue.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class Queue:
    """A job queue with its largest compute environment."""

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
    """A submitted job, with its definition and overrides merged."""

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
    immediate_failure: str | None = None
    """The statusReason of a job that Batch accepts and then fails at once; None for all others."""


@dataclass(frozen=True)
class Task:
    """One attempt of one job, as a runner executes it."""

    id: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_stream: str
    log_group: str = "/aws/batch/job"
    vcpus: float = 1
    memory: int | None = None
    """The memory limit in MiB."""
    user: str | None = None
    role: str | None = None
    """The ARN of the job role."""
    init: bool = False
    """Whether to start the container with an init process. It forwards signals and reaps zombies."""


@dataclass(frozen=True)
class Started:
    """The event that the process of a task runs."""

    task_id: str


@dataclass(frozen=True)
class Exited:
    """The event that a task has ended, or could not start.

    ``exit_code`` is None if the runner saw none: the task never started, or its host was lost.
    ``reason`` is the container's reason in the words of ECS.
    """

    task_id: str
    exit_code: int | None
    reason: str | None = None
    status_reason: str = EXITED


Event = Started | Exited


@dataclass(frozen=True)
class Start:
    """The action to start a task."""

    task: Task


@dataclass(frozen=True)
class Stop:
    """The action to send SIGTERM, or SIGKILL, to the processes of a task."""

    task_id: str
    kill: bool


Action = Start | Stop


# An array has up to 10,000 children, so jobs and attempts have slots: they take less memory than with a dict.
@dataclass(slots=True)
class Attempt:
    """One execution of a job. Times are milliseconds since 1970."""

    task_id: str
    log_stream: str
    started: int | None = None
    stopped: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None


# Compared by identity: a comparison by value would follow parents and children without end.
@dataclass(slots=True, eq=False)
class Job:
    """A single job, an array parent or a child job. Times are milliseconds since 1970."""

    id: str
    spec: JobSpec
    order: int
    """The position in the order of creation, over all jobs of the cloud."""
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
    """The number of children in each state."""
    open_dependencies: int = 0
    """The number of jobs that must succeed before this one can start."""
    dependents: list[Job] = field(default_factory=list)
    stop_reason: str | None = None
    """The statusReason of a running job that is being stopped, or else None."""
    cancelled: bool = False
    terminated: bool = False


def add_children(job: Job) -> None:
    """Give a job the children of its array, all in SUBMITTED."""
    for index in range(job.spec.array_size or 0):
        child = Job(f"{job.id}:{index}", job.spec, job.order + 1 + index, job.created, parent=job, index=index)
        job.children.append(child)
    job.summary = Counter({Status.SUBMITTED: len(job.children)})
