"""MapStatus: the progress of a map for its display and its errors, and the reasons why its jobs wait for a machine.

Batch gives such a reason in the statusReason of a job in the state RUNNABLE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from cloudknot.display.picture import failure_line
from cloudknot.display.progress import Progress, Snapshot, summary
from cloudknot.errors import CloudknotError
from cloudknot.options import streams

if TYPE_CHECKING:
    from cloudknot.run.collect.element_table import ElementTable
    from cloudknot.run.collect.run_view import RunView


# By parts of AWS's reasons. See the AWS Batch user guide, "Jobs stuck in a RUNNABLE status".
REASONS: tuple[tuple[str, str], ...] = (
    (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "because it asks for more vCPUs, memory or GPUs than any machine of its queue has. It will never start. End "
        "it with future.cancel(), then ask for less or for larger instance_types",
    ),
    (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "because it asks for more vCPUs than its knot may have at a time. It will never start. End it with "
        "future.cancel(), then ask for fewer, or create the Knot with a higher max_vcpus",
    ),
    (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "because AWS has no machine of these instance types at the moment. AWS keeps trying, and the job starts when "
        "there is one. To get a machine sooner, end it with future.cancel() and create the Knot with more "
        "instance_types, or without bid_percentage (machines on demand, not Spot)",
    ),
    (
        "CAPACITY:",
        "because AWS has no machine for it at the moment. AWS keeps trying. Wait for it, or end it with "
        "future.cancel()",
    ),
    (
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        "because AWS cannot start machines of these instance types with the knot's settings, for example with an "
        "image_id of another architecture. It will never start. End it with future.cancel(), then create the Knot "
        "with other instance_types or without image_id",
    ),
    (
        "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
        "because AWS Batch lacks a permission to start machines. Ask the administrator of the AWS account to attach "
        "AWS's policy AWSBatchServiceRole to the role that Batch itself uses (batch_service_role_name of the Pars, if "
        "you passed one). The job then starts by itself",
    ),
    (
        "MISCONFIGURATION:",
        "because the AWS resources that start its machines are not set up to run it. End it with future.cancel(), "
        "clobber the knot with knot.clobber(), which keeps results, and create it again",
    ),
    (
        "ACTION_REQUIRED",
        "because AWS Batch reports the knot's compute environment (its pool of machines) as invalid. Something that "
        "it needs, such as a role or a subnet, was changed or removed. End it with future.cancel(), clobber the knot "
        "with knot.clobber(), which keeps results, and create it again",
    ),
    (
        "UNDETERMINED",
        "and AWS Batch cannot determine why. If it does not start within half an hour, check two things. The account "
        "may have reached an AWS quota for machines, which its administrator can raise. Or the knot's machines may "
        "not reach AWS: subnets of your own need a route to the internet, and an image_id of your own must be made "
        "for Amazon ECS. End it with future.cancel()",
    ),
)
FIRST, LONGEST = 3.0, 300.0
"""Seconds without a running job before Batch is asked for the reason, and most seconds between later questions."""

SHORT_CALL = 0.05
"""Seconds of a call below which larger chunks are advised."""
SAMPLE = 20
"""Elements that must end before the pace of a map is known."""
WORTHWHILE, FASTER = 5.0, 3.0
"""Least seconds that a map must have left for the advice, and least factor that it must save."""
_ADVISED: set[str] = set()
"""The knots that got the advice in this session."""


def explain(name: str, reason: str) -> str:
    """Return a sentence on why a job of the map ``name`` waits, from its statusReason; empty without a reason."""
    return f"{name}: a {waiting_sentence(reason)}" if reason else ""


def waiting_sentence(reason: str) -> str:
    """Return ``job is waiting, because ...``, with AWS's own words at the end."""
    reason = reason.rstrip(".")
    explanation = next((f", {text}" for part, text in REASONS if part in reason), "")
    return f"job is waiting{explanation}. AWS reports: {reason}"


def only_waits(states: Mapping[str, int]) -> bool:
    """Return whether jobs wait for a machine while no job has one."""
    return bool(states.get("RUNNABLE")) and not states.get("STARTING") and not states.get("RUNNING")


class StuckWatch:
    """A watch for jobs that wait while none runs. It asks Batch for the reason at growing intervals.

    Attributes
    ----------
    reason : str
        Batch's last reason, while jobs still wait; else empty.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self._clock, self._pause = clock, FIRST
        self._next: float | None = None
        self._reported: set[str] = set()

    @property
    def explanation(self) -> str:
        """The reason as a sentence that ends with a space; empty without a reason."""
        return f"Its {waiting_sentence(self.reason)}. " if self.reason else ""

    def look(self, states: Mapping[str, int], ask: Callable[[], str]) -> str | None:
        """Ask for the reason if jobs wait and it is time; return a reason that was not returned before, else None.

        Parameters
        ----------
        states : mapping
            The number of children in each of Batch's states.
        ask : callable
            Returns the statusReason of a job in RUNNABLE; empty if Batch gives none.
        """
        if not only_waits(states):
            self._next, self.reason = None, ""
            return None
        now = self._clock()
        if self._next is None:
            self._next = now + self._pause
        if now < self._next:
            return None
        # Each question is a call to Batch, and a job may wait for days.
        self._pause = min(2 * self._pause, LONGEST)
        self._next = now + self._pause
        self.reason = ask()
        if not self.reason or self.reason in self._reported:
            return None
        self._reported.add(self.reason)
        return self.reason


class ShortCalls:
    """A watch for a map whose calls are much shorter than the start of the child job that each of them has.

    Parameters
    ----------
    knot : str
        The name of the knot, which gets the advice once in a session.
    count : int
        Number of elements.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, knot: str, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._knot, self._count, self._clock = knot, count, clock
        self._first: tuple[float, int] | None = None
        self._is_over = False

    def look(self, ended: int, running: int, measure: Callable[[], float | None]) -> str:
        """Return the advice to use larger chunks, once, when it would save time; else an empty text.

        Parameters
        ----------
        ended : int
            Number of elements that have ended.
        running : int
            Number of child jobs that run at the same time.
        measure : callable
            Returns the mean seconds of a call so far; None if unknown. It reads a few small ranges from S3.
        """
        if self._is_over or not ended:
            return ""
        now = self._clock()
        if self._first is None:
            self._first = now, ended
        passed, number = now - self._first[0], ended - self._first[1]
        if number < SAMPLE:
            return ""
        self._is_over = True
        pace, remaining = passed / number, self._count - ended
        if pace * remaining < WORTHWHILE or self._knot in _ADVISED:
            return ""
        seconds = measure()
        if seconds is None or seconds >= SHORT_CALL:
            return ""
        in_chunks = max(1.0, seconds * self._count / max(1, running))
        if FASTER * in_chunks > pace * self._count:
            return ""
        _ADVISED.add(self._knot)
        return (
            f"{self._knot}: a call takes {_milliseconds(seconds)}, and the child job for it "
            f"{_milliseconds(pace)}. map(..., chunksize='auto') would take about {in_chunks:.0f} s in place of "
            f"{pace * self._count:.0f} s."
        )


def _milliseconds(seconds: float) -> str:
    return f"{float(f'{1000 * seconds:.2g}'):g} ms"


class MapStatus:
    """The status of one map: its line of progress, and its sentences for errors.

    Parameters
    ----------
    view : RunView
    table : ElementTable
    progress : Progress, optional
        The display. Without one, the reasons why jobs wait are logged.
    how_to_return : str
        Sentence for messages: how another session finds the job.

    Attributes
    ----------
    ended_before : bool
        Whether the map had ended before this session looked at it. Its failures are no news then.
    """

    def __init__(
        self, view: RunView, table: ElementTable, progress: Progress | None = None, how_to_return: str = ""
    ) -> None:
        self._view, self._table, self._progress, self.how_to_return = view, table, progress, how_to_return
        self._stuck = StuckWatch()
        self._failure, self._advice = "", ""
        self._short_calls: ShortCalls | None = None
        self.ended_before = False

    @property
    def reports_failure(self) -> bool:
        """Whether the next failure is reported: the first one, unless the map had ended before."""
        return not (self._failure or self.ended_before)

    def fail(self, index: int, describe: Callable[[], str], failed: int) -> None:
        """Report the first failure: of the element ``index``, when ``failed`` elements have failed.

        ``describe`` returns the failure in one line. It may read S3.
        """
        if not self.reports_failure:
            return
        self._failure = f"element {index} failed"
        # The line is worth more without its cause than not at all, and the collector handles an outage.
        with suppress(CloudknotError):
            self._failure += f": {describe()}"
        if self._progress is None:
            streams.logger.warning(failure_line(self.knot, self._failure, failed, len(self._table)))

    @property
    def knot(self) -> str:
        """The name of the knot."""
        return self._view.run.keys.knot

    @property
    def job_id(self) -> str:
        """Batch's id of the map's first job."""
        return self._view.job_id

    def snapshot(self) -> Snapshot:
        """Return the progress at the collector's last poll."""
        reason = explain(self._view.name, self._stuck.reason) if self._table.pending else ""
        return replace(
            self._table.snapshot(self._view.states), reason=reason, failure=self._failure, advice=self._advice
        )

    @property
    def is_running(self) -> bool:
        """Whether a child job was running at the collector's last poll."""
        return bool(self._view.states.get("RUNNING"))

    def update(self) -> None:
        """Show the map after a poll of its collector, with the reason why its jobs wait."""
        reason = None
        # The display works without the reason, and the collector handles an outage.
        with suppress(CloudknotError):
            reason = self._stuck.look(self._view.states, self._view.reason_of_waiting)
            self._look_at_pace()
        self.show()
        if reason is not None and self._progress is None:
            streams.logger.warning(explain(self._view.name, reason))

    def _look_at_pace(self) -> None:
        """Advise larger chunks, once, if each short call has a child job of its own."""
        if self._short_calls is None:
            self._short_calls = ShortCalls(self.knot, len(self._table))
        if self._view.run.manifest.chunksize > 1 or self._advice:
            return
        running, ended = self._view.states.get("RUNNING", 0), len(self._table) - self._table.pending
        self._advice = self._short_calls.look(ended, running, self._view.mean_seconds)
        if self._advice and self._progress is None:
            streams.logger.warning(self._advice)

    def show(self) -> None:
        """Show the progress of the map."""
        if self._progress is not None:
            self._progress.show(self.snapshot())

    def stop(self) -> None:
        """Show the map for the last time."""
        if self._progress is not None:
            self.show()
            self._progress.stop()

    def hide(self) -> None:
        """Show nothing from now on."""
        self._progress = None

    def resume(self) -> None:
        """Draw on the terminal again, because a wait has begun."""
        if self._progress is not None:
            self._progress.resume()

    def pause(self) -> None:
        """Leave the terminal to the user."""
        if self._progress is not None:
            self._progress.pause()

    def so_far(self) -> str:
        """Return the progress at the collector's last poll, in sentences that end with a space."""
        now = self.snapshot()
        return f"Progress: {summary(now, len(self._table))}. {self._stuck.explanation}"
