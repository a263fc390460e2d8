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
from cloudknot.display.progress import Progress, summary
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
        self._failure = ""
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
            streams.logger.warning(failure_line(self._view.run.keys.knot, self._failure, failed, len(self._table)))

    def update(self) -> None:
        """Show the map after a poll of its collector, with the reason why its jobs wait."""
        reason = None
        # The display works without the reason, and the collector handles an outage.
        with suppress(CloudknotError):
            reason = self._stuck.look(self._view.states, self._view.reason_of_waiting)
        self.show()
        if reason is not None and self._progress is None:
            streams.logger.warning(explain(self._view.name, reason))

    def show(self) -> None:
        """Show the progress of the map."""
        if self._progress is not None:
            now = self._table.snapshot(self._view.states)
            reason = explain(self._view.name, self._stuck.reason) if self._table.pending else ""
            self._progress.show(replace(now, reason=reason, failure=self._failure))

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
        now = self._table.snapshot(self._view.states)
        return f"Progress: {summary(now, len(self._table))}. {self._stuck.explanation}"
