"""The faults that the embedded cloud can inject: plain data, sent as JSON. None is on by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cloudknot.errors import refuse
from cloudknot.local.batch.records import EXITED, HOST_LOST, NOT_STARTED

RATES = ("errors", "dropped", "reset", "slow", "truncated", "missing", "misplaced", "pages", "bugs", "throttled")


@dataclass(frozen=True)
class AttemptEnd:
    """Batch's description of an attempt that a fault ended."""

    exit_code: int | None
    reason: str | None
    status_reason: str


# In AWS's own words, because the client recognises a failure by them.
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
"""By the ``how`` of a `Kill`. The texts are those of AWS Batch, ECS and Fargate."""
NEVER_STARTED = ("pull", "start")
MOMENTS = ("start", "stored", "end")


@dataclass(frozen=True)
class Kill:
    """A fault that ends attempts early.

    Attributes
    ----------
    how : {"host", "spot", "memory", "pull", "start", "docker"}
        The reason that Batch reports. ``"host"``, ``"spot"`` and ``"memory"`` kill the processes (SIGKILL).
        With ``"pull"`` and ``"start"`` the attempt never has a process. With ``"docker"`` the processes do all their
        work, and Batch still reports a failure.
    when : {"start", "stored", "end"}
        ``"start"``: before the process does anything. ``"stored"``: after it has stored its first results.
        ``"end"``: in place of its own end, after it has stored all results.
    after : float
        Seconds between ``when`` and the end of the attempt. Default 0.
    children : tuple of int
        Indices of the affected child jobs. A plain job is child 0. Default: all.
    attempts : int
        Number of affected attempts of each child job, counted from its first. Default 1.
    share : float
        Share of these attempts, drawn at random. Default 1: all.
    overlap : bool
        Whether the process goes on, although Batch reports its end and starts the next attempt.
    """

    how: str
    when: str = "start"
    after: float = 0.0
    children: tuple[int, ...] = ()
    attempts: int = 1
    share: float = 1.0
    overlap: bool = False

    # Checked in the session and again in the server, which receives plain JSON.
    def __post_init__(self) -> None:
        _check_choice("how", self.how, tuple(ATTEMPT_ENDS))
        _check_choice("when", self.when, MOMENTS)
        _check_rate("share", self.share)

    def affects(self, child: int, attempt: int) -> bool:
        """Return whether the fault may end this attempt of a child job."""
        return attempt <= self.attempts and (not self.children or child in self.children)

    @property
    def ending(self) -> AttemptEnd:
        """The attempt's end in Batch's words."""
        return ATTEMPT_ENDS[self.how]

    @property
    def moment(self) -> str:
        """The moment at which the attempt ends."""
        # Docker's timeout is reported only after the work is done.
        return "end" if self.how == "docker" else self.when

    @property
    def at_once(self) -> bool:
        """Whether the attempt ends before it does anything."""
        return self.moment == "start" and not self.after and not self.overlap


@dataclass(frozen=True)
class Faults:
    """The faults to inject. Rates are shares of the requests, from 0 (never) to 1 (always).

    They apply to the requests of sessions and jobs, and not to CloudFormation's own calls for a stack.

    Attributes
    ----------
    errors : float
        Rate of requests that get HTTP 500 (InternalError) or 503 (SlowDown), chosen at random, and have no effect.
    dropped : float
        Rate of requests that take effect, but get no answer: the connection is closed.
    slow, delay : float
        Rate of requests that take effect ``delay`` seconds late.
    reset : float
        Rate of requests that take effect, and whose connection is reset (RST) while the answer is sent.
    truncated : float
        Rate of requests that take effect, and get only a part of the answer. Then the connection is closed (FIN).
    cut : float or int, optional
        The end of truncated answers: a share of the body (a float from 0 to 1), or a number of bytes of the body (an
        int). Default: any place in the head or the body, at random.
    missing : float
        Rate of requests that take effect, and whose answer lacks one of its members. An answer without members stays
        as it is.
    misplaced : float
        Rate of requests that take effect, and get the answer to another operation.
    pages : float
        Rate of requests that get a login page with HTTP status 200 in HTML, and have no effect.
    bugs : float
        Rate of requests in which the server's code raises an exception, and which have no effect.
    services : tuple of str
        Services that the rates above apply to, by their names in signatures. Default: S3.
    only : str
        Part of method and path, for example ``"POST /v1/submitjob"``. The rates above apply only to requests with it.
    limit : int, optional
        Total number of faults by the rates above. Default: no limit.
    throttled : float
        Rate of calls to Batch that get HTTP 429, TooManyRequestsException. ``limit`` applies here as well.
    expired, jobs_expired : bool
        Whether the credentials of sessions count as expired. With both set, those of jobs do too.
    refused : str
        Error code for all requests of sessions to ``services``, for example ``"AccessDenied"``. Jobs are not affected.
    silent : bool
        Whether every connection is closed without an answer, and no request has an effect.
    kills : tuple of Kill
        Faults that end attempts. The first one that affects an attempt applies.
    seed : int
        Seed of the random numbers. The same requests in the same order meet the same faults.
    """

    errors: float = 0.0
    dropped: float = 0.0
    slow: float = 0.0
    delay: float = 0.5
    reset: float = 0.0
    truncated: float = 0.0
    cut: float | int | None = None
    missing: float = 0.0
    misplaced: float = 0.0
    pages: float = 0.0
    bugs: float = 0.0
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
        if isinstance(self.cut, float):
            _check_rate("cut", self.cut)
        elif self.cut is not None and self.cut < 0:
            refuse(problem=f"cut={self.cut!r} is negative.", fix="Pass a number of bytes, for example cut=10.")

    def to_dict(self) -> dict[str, object]:
        """Return the faults as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Faults:
        """Return the faults in a JSON object. Raises `CloudknotInputError` for unknown names."""
        # JSON has no tuples.
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in members.items()
        }
        _check_names(values, cls)
        values["kills"] = tuple(_kill(kill) for kill in values.get("kills", ()))
        return cls(**values)


def _kill(members: Mapping[str, Any]) -> Kill:
    """Return the `Kill` in a JSON object."""
    _check_names(members, Kill)
    return Kill(**{**members, "children": tuple(members.get("children", ()))})


def _check_names(members: Mapping[str, object], cls: type[Faults | Kill]) -> None:
    names = [field.name for field in fields(cls)]
    unknown = members.keys() - set(names)
    if unknown:
        refuse(
            problem=f"{cls.__name__} has no attribute {', '.join(sorted(unknown))}.",
            fix=f"Use only {', '.join(names)}.",
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        refuse(problem=f"{name}={value!r} is not a known choice.", fix=f"Choose one of {', '.join(choices)}.")


def _check_rate(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        refuse(problem=f"{name}={value!r} is not a rate from 0 to 1.", fix=f"Pass for example {name}=0.3.")
