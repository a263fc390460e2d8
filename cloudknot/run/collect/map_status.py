"""How a map gets on: its progress, and why its jobs wait in RUNNABLE, which Batch says in a job's statusReason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from cloudknot.display.progress import Progress, summary
from cloudknot.errors import CloudknotError

if TYPE_CHECKING:
    from cloudknot.run.collect.element_table import ElementTable
    from cloudknot.run.collect.run_view import RunView

logger = logging.getLogger("cloudknot")

# By parts of AWS's reasons. Source: AWS Batch user guide, "Jobs stuck in a RUNNABLE status".
REASONS: tuple[tuple[str, str], ...] = (
    (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "because it asks for more vCPUs, memory or GPUs than any machine of its queue has. It will never start. End "
        "it with future.cancel(), then ask for less or for larger instance_types",
    ),
    (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "because it asks for more vCPUs than its knot may have at a time. It will never start. End it with "
        "future.cancel(), then ask for fewer, or make the Knot with a higher max_vcpus",
    ),
    (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "because AWS has no machine of these instance types at the moment. AWS keeps trying, and the job starts when "
        "there is one. A Knot with more instance_types, or without bid_percentage (machines on demand, not Spot), is "
        "likelier to get one",
    ),
    ("CAPACITY:", "because AWS has no machine for it at the moment. AWS keeps trying"),
    (
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
        "because AWS cannot start machines of these instance types with the knot's settings, for example with an "
        "image_id of another architecture. It will never start. End it with future.cancel(), then make the Knot with "
        "other instance_types or without image_id",
    ),
    (
        "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS",
        "because AWS Batch lacks a permission to start machines. Ask the administrator of the AWS account to attach "
        "AWS's policy AWSBatchServiceRole to the role that Batch itself uses (batch_service_role_name of the Pars, if "
        "you gave one). The job then starts by itself",
    ),
    (
        "MISCONFIGURATION:",
        "because the AWS resources that start its machines are not set up to run it. End it with future.cancel(), "
        "remove the knot with knot.clobber(), which keeps results, and make it again",
    ),
    (
        "ACTION_REQUIRED",
        "because AWS Batch reports the knot's compute environment (its pool of machines) as invalid. Something that "
        "it needs, such as a role or a subnet, was changed or removed. End it with future.cancel(), remove the knot "
        "with knot.clobber(), which keeps results, and make it again",
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
"""Seconds for which nothing has run when Batch is asked first, and between later questions at most."""


def explain(name: str, reason: str) -> str:
    """Return the meaning of a statusReason for a job in RUNNABLE, of the map called ``name``; empty for no reason."""
    return f"{name}: a {sentence(reason)}" if reason else ""


def sentence(reason: str) -> str:
    """Return ``job is waiting, because ...``, with AWS's own words at the end."""
    reason = reason.rstrip(".")
    explanation = next((f", {text}" for part, text in REASONS if part in reason), "")
    return f"job is waiting{explanation}. AWS reports: {reason}"


def only_waits(states: Mapping[str, int]) -> bool:
    """Whether jobs wait for a machine, and none has one."""
    return bool(states.get("RUNNABLE")) and not states.get("STARTING") and not states.get("RUNNING")


class StuckWatch:
    """Asks now and then why jobs wait while none runs, and gives each answer once.

    Attributes
    ----------
    reason : str
        The last answer, while they still wait; else empty.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self._clock, self._pause = clock, FIRST
        self._next: float | None = None
        self._told: set[str] = set()

    @property
    def why(self) -> str:
        """A sentence that tells it, followed by a space; empty when there is nothing to tell."""
        return f"Its {sentence(self.reason)}. " if self.reason else ""

    def look(self, states: Mapping[str, int], ask: Callable[[], str]) -> str | None:
        """A reason that was not given before, if jobs wait and it is time to ask.

        Parameters
        ----------
        states : mapping
            How many children are in which state.
        ask : callable
            Gives the statusReason of a job in RUNNABLE; empty when there is none.
        """
        if not only_waits(states):
            self._next, self.reason = None, ""
            return None
        now = self._clock()
        if self._next is None:
            self._next = now + self._pause
        if now < self._next:
            return None
        self._pause = min(2 * self._pause, LONGEST)
        self._next = now + self._pause
        self.reason = ask()
        if not self.reason or self.reason in self._told:
            return None
        self._told.add(self.reason)
        return self.reason


class MapStatus:
    """How one map gets on: its line of progress, and the words for an error.

    Parameters
    ----------
    view : RunView
    table : ElementTable
    progress : Progress, optional
        Where it is shown; without one, reasons why jobs wait are logged.
    how_to_return : str
        Where the job is found again, for errors.
    """

    def __init__(
        self, view: RunView, table: ElementTable, progress: Progress | None = None, how_to_return: str = ""
    ) -> None:
        self._view, self._table, self._progress, self.how_to_return = view, table, progress, how_to_return
        self._stuck = StuckWatch()

    def update(self) -> None:
        """Show the map after a look of its collector, and why its jobs wait."""
        reason = None
        with suppress(CloudknotError):
            reason = self._stuck.look(self._view.states, self._view.reason_of_waiting)
        self.show()
        if reason is not None and self._progress is None:
            logger.warning(explain(self._view.name, reason))

    def show(self) -> None:
        """Show how the map gets on."""
        if self._progress is not None:
            why = explain(self._view.name, self._stuck.reason)
            self._progress.show(self._table.snapshot(self._view.states, why))

    def stop(self) -> None:
        """Show the map for the last time."""
        if self._progress is not None:
            self.show()
            self._progress.stop()

    def resume(self) -> None:
        """Draw on the terminal again, because somebody waits."""
        if self._progress is not None:
            self._progress.resume()

    def pause(self) -> None:
        """Leave the terminal to whoever types there."""
        if self._progress is not None:
            self._progress.pause()

    def so_far(self) -> str:
        """Return how the map gets on as far as the collector has seen, in sentences that end with a space."""
        now = self._table.snapshot(self._view.states, "")
        return f"So far {summary(now, len(self._table))}. {self._stuck.why}"
