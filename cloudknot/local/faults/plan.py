"""The faults that the embedded cloud can be told to inject: plain data that travels as JSON. None is on by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cloudknot.errors import CloudknotInputError
from cloudknot.local.batch.records import EXITED, HOST_LOST, NOT_STARTED

RATES = ("errors", "dropped", "slow", "truncated", "throttled")


@dataclass(frozen=True)
class AttemptEnd:
    """What Batch says of an attempt that a fault ended."""

    exit_code: int | None
    reason: str | None
    status_reason: str


ATTEMPT_ENDS = {
    "host": AttemptEnd(None, None, HOST_LOST),
    "spot": AttemptEnd(None, None, "Your Spot Task was interrupted."),
    "memory": AttemptEnd(137, "OutOfMemoryError: Container killed due to memory usage", EXITED),
    "pull": AttemptEnd(
        None, "CannotPullContainerError: pull image manifest has been retried 7 time(s): i/o timeout", NOT_STARTED
    ),
    "start": AttemptEnd(None, "CannotStartContainerError: failed to create shim task: context canceled", NOT_STARTED),
    "docker": AttemptEnd(
        None, "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s", NOT_STARTED
    ),
}
"""By the ``how`` of a `Kill`; the texts are those of AWS Batch, ECS and Fargate."""
NEVER_STARTED = ("pull", "start")
MOMENTS = ("start", "stored", "end")


@dataclass(frozen=True)
class Kill:
    """Attempts to be ended before their time.

    Attributes
    ----------
    how : {"host", "spot", "memory", "pull", "start", "docker"}
        What Batch gives as the reason. The processes of the first three are killed (SIGKILL); the next two never
        have any; the last one's do all their work, and Batch reports a failure all the same.
    when : {"start", "stored", "end"}
        As the process starts and before it does anything, after it has stored its first results, or instead of its
        own end, when all its results are stored.
    after : float
        Seconds later than that. Default 0.
    children : tuple of int
        Indices of the children that are meant; a plain job is child 0. Default: all.
    attempts : int
        How many attempts of each, counted from its first. Default 1.
    share : float
        Which share of them, drawn at random. Default 1: all.
    overlap : bool
        Batch believes that the attempt has ended, and starts the next one, while its process goes on.
    """

    how: str
    when: str = "start"
    after: float = 0.0
    children: tuple[int, ...] = ()
    attempts: int = 1
    share: float = 1.0
    overlap: bool = False

    def __post_init__(self) -> None:
        _check_choice("how", self.how, tuple(ATTEMPT_ENDS))
        _check_choice("when", self.when, MOMENTS)
        _check_rate("share", self.share)

    def is_meant(self, child: int, attempt: int) -> bool:
        """Whether an attempt of a child is one of those."""
        return attempt <= self.attempts and (not self.children or child in self.children)

    @property
    def ending(self) -> AttemptEnd:
        return ATTEMPT_ENDS[self.how]

    @property
    def moment(self) -> str:
        """When it takes effect: what Docker's timeout says comes after the work."""
        return "end" if self.how == "docker" else self.when

    @property
    def at_once(self) -> bool:
        """Whether it takes effect before anything is done."""
        return self.moment == "start" and not self.after and not self.overlap


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Rates are shares of the requests, 0 (never) to 1 (always).

    Attributes
    ----------
    errors : float
        Answered by 500 (InternalError) or 503 (SlowDown), in turn at random, and not carried out.
    dropped : float
        Carried out, and the connection closed without an answer.
    slow, delay : float
        Carried out ``delay`` seconds late.
    truncated : float
        GET requests of S3 whose answer breaks off half-way.
    services : tuple of str
        Those that the above is for, as a signature names them. Default: S3.
    only : str
        The above is only for requests whose method and path hold this, for example ``"POST /v1/submitjob"``.
    limit : int, optional
        How often the above happens in all. Default: without an end.
    throttled : float
        Calls of Batch answered by 429, TooManyRequestsException; ``limit`` counts here as well.
    expired : bool
        Credentials have expired. Those of jobs have not, unless ``jobs_expired``.
    refused : str
        The code with which requests of ``services`` are refused for good, for example ``"AccessDenied"``; those of
        jobs are not.
    silent : bool
        Every connection is closed without an answer, and nothing is carried out.
    kills : tuple of Kill
        The first one that an attempt is meant by counts.
    seed : int
        Of the random numbers: the same requests in the same order meet the same faults.
    """

    errors: float = 0.0
    dropped: float = 0.0
    slow: float = 0.0
    delay: float = 0.5
    truncated: float = 0.0
    services: tuple[str, ...] = ("s3",)
    only: str = ""
    limit: int | None = None
    throttled: float = 0.0
    expired: bool = False
    jobs_expired: bool = False
    refused: str = ""
    silent: bool = False
    kills: tuple[Kill, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in RATES:
            _check_rate(name, getattr(self, name))

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Faults:
        """What `to_dict` made, and JSON carried. Raises `CloudknotInputError` for what there is not."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        _check_names("faults", values, cls)
        values["kills"] = tuple(_kill(kill) for kill in values.get("kills", ()))
        return cls(**values)


def _kill(given: Mapping[str, Any]) -> Kill:
    _check_names("kills", given, Kill)
    return Kill(**{**given, "children": tuple(given.get("children", ()))})


def _check_names(where: str, given: Mapping[str, object], cls: type[Faults | Kill]) -> None:
    unknown = given.keys() - {field.name for field in fields(cls)}
    if unknown:
        raise CloudknotInputError(f"{where}: there is no {', '.join(sorted(unknown))}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CloudknotInputError(f"{name}={value!r} is none of {', '.join(choices)}.")


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise CloudknotInputError(f"{name}={value!r} is not a share, 0 to 1.")
