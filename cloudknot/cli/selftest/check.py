"""The steps of a check, in order, with their durations and results. The last ones remove all of its resources."""

from __future__ import annotations

import runpy
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cloudknot.aws import clients
from cloudknot.cli.selftest import plan as plans
from cloudknot.cli.selftest.interrupts import Interrupts
from cloudknot.cli.selftest.inventory import BUCKET, Inventory, compare, take_inventory
from cloudknot.cli.selftest.removal import commands, remove_all
from cloudknot.cli.selftest.report import FAILED, INTERRUPTED, PASSED, SKIPPED, Report, StepResult, versions
from cloudknot.cli.selftest.second_session import CloudChoice, results_elsewhere
from cloudknot.deploy.pars import Pars
from cloudknot.errors import CloudknotError, PermissionDeniedError
from cloudknot.knot import Knot
from cloudknot.run.collect.run_view import ENDED

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.run.collect.map_future import MapFuture

T = TypeVar("T")

NUMBERS = range(6)
FAILING = 2
"""The element that fails on purpose."""
LAG = 120.0
"""Seconds for the last line of a job to arrive in CloudWatch Logs, and for Batch to report the job's end."""
LOOKS = 20
"""Looks at the resources that are left, because AWS lists deleted ones for some minutes."""
PAUSE = 15.0
"""Seconds between two such looks, and between two looks at the logs."""
SHORT_PAUSE = 1.0
"""Seconds between two looks at the state of a job."""


class UnexpectedError(CloudknotError):
    """An answer that differs from the expected one. The report shows it; nobody catches it."""


class Step(NamedTuple):
    """A step, and the titles of the steps without which it cannot run."""

    title: str
    act: Callable[[], str]
    needs: tuple[str, ...] = ()


@dataclass
class Check:
    """One check of a cloud.

    Parameters
    ----------
    cloud : Cloud
    choice : CloudChoice
        The options that chose the cloud, for the second process.
    say : callable
        Receives lines for the terminal.
    saved : callable
        Receives the report after each step, so that a killed check leaves one.
    """

    cloud: Cloud
    choice: CloudChoice
    say: Callable[[str], None]
    saved: Callable[[Report], None]
    version: str
    """The version of cloudknot, for the report."""
    plan: plans.Plan = field(default_factory=plans.Plan)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        amount = plans.cost()
        self.report = Report(
            cloud="AWS" if self.cloud.endpoint_url is None else f"{type(self.cloud).__name__} (not AWS)",
            region=self.cloud.region,
            started=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            versions=versions(self.version),
            cost=f"computed, not billed: usually ${amount.usual:.2f}, at most ${amount.most:.2f}",
        )
        self._before: Inventory | None = None
        self._pars: Pars | None = None
        self._knots: dict[str, Knot] = {}
        self._maps: dict[str, MapFuture] = {}

    def run(self) -> Report:
        """Run all steps and remove everything, also after an error or a signal. Return the report.

        Raises
        ------
        KeyboardInterrupt
            The removal was interrupted, too. The report names the resources that may be left.
        """
        text = "Removing all resources of the check first. This takes some minutes."
        with Interrupts(self.say, text) as interrupts:
            try:
                self._walk(self._steps())
            except KeyboardInterrupt:
                self.report.interrupted = True
                # Without an inventory, no later step saves the report.
                self.saved(self.report)
                self.say(f"Interrupted. {text}" if self._before is not None else "Interrupted. Nothing was made.")
            finally:
                interrupts.begin_removal()
                self._finish()
        return self.report

    def _steps(self) -> tuple[Step, ...]:
        here, pars, fargate, spot = (
            "reach the account",
            "make the roles",
            "make a knot on Fargate",
            "make a knot on Spot",
        )
        mapped, failed = "map on Fargate", "fail on purpose"
        return (
            Step(here, self._reach),
            Step("count the resources", self._count, (here,)),
            Step(pars, self._make_pars, ("count the resources",)),
            Step(fargate, lambda: self._make_knot(self.plan.fargate, ("fargate",), None), (pars,)),
            Step(mapped, self._map, (fargate,)),
            Step(failed, self._fail, (fargate,)),
            Step("retry", self._retry, (failed,)),
            Step("reduce", self._reduce, (mapped,)),
            Step("read the logs", self._read_logs, (mapped,)),
            Step("attach from a second process", self._attach, (mapped,)),
            Step(spot, lambda: self._make_knot(self.plan.spot, self._spot_types(), 100), (pars,)),
            Step("map on Spot, with an attempt that fails", self._map_on_spot, (spot,)),
        )

    def _walk(self, steps: Sequence[Step]) -> None:
        passed: set[str] = set()
        for number, step in enumerate(steps):
            if not passed.issuperset(step.needs):
                self._record(StepResult(step.title, SKIPPED, 0.0, "an earlier step failed"))
                continue
            try:
                if self._do(step.title, step.act):
                    passed.add(step.title)
            except KeyboardInterrupt:
                for later in steps[number + 1 :]:
                    self._record(StepResult(later.title, SKIPPED, 0.0, "the check was interrupted"))
                raise

    def _do(self, title: str, act: Callable[[], str]) -> bool:
        """Run one step, record it, and return whether it passed."""
        began = time.monotonic()
        result, detail = INTERRUPTED, ""
        try:
            self.say(f"{title} ...")
            detail = act()
            result = PASSED
        # Any error is a result of the check, for its report.
        except Exception as error:
            result, detail = FAILED, _line(error)
            self.report.first_error = self.report.first_error or "".join(traceback.format_exception(error))
        finally:
            self._record(StepResult(title, result, round(time.monotonic() - began, 1), detail))
        return result == PASSED

    def _record(self, step: StepResult) -> None:
        self.report.steps.append(step)
        self.say(f"{step.title}: {step.result} ({step.seconds:.1f} s) {step.detail}".rstrip())
        self.saved(self.report)

    def _finish(self) -> None:
        """Remove all resources, compare the inventory, and record both as steps."""
        # Without an inventory nothing was made, because it comes first.
        if self._before is not None:
            try:
                self._do("remove everything", self._remove)
                self._do("compare the resources", self._compare)
            except KeyboardInterrupt:
                self.say(f"The removal was interrupted, too. To finish it, run:\n{commands(self.plan)}")
                raise

    def _reach(self) -> str:
        clients.sts(self.cloud).get_caller_identity()
        return ""

    def _count(self) -> str:
        self._before = before = take_inventory(self.cloud, self.plan)
        unknown = [kind for kind, found in before.kinds.items() if found is None]
        return f"not readable: {', '.join(unknown)}" if unknown else f"{len(before.kinds)} kinds"

    def _make_pars(self) -> str:
        self._pars = Pars(self.plan.pars, cloud=self.cloud)
        return ""

    def _make_knot(self, name: str, types: Sequence[str], bid: int | None) -> str:
        # By value, as a function of the user's own: an import would make cloudknot a requirement of the image.
        probe = runpy.run_path(str(Path(__file__).with_name("job.py")))["probe"]
        self._knots[name] = Knot(
            name,
            pars=self._pars,
            func=probe,
            requirements=[],
            repo_name=self.plan.repository,
            instance_types=list(types),
            bid_percentage=bid,
            max_vcpus=len(NUMBERS) if bid is None else plans.SPOT_VCPUS,
            retries=None if bid is None else 2,
            timeout=self.plan.attempt_seconds,
            cloud=self.cloud,
        )
        return ""

    def _spot_types(self) -> list[str]:
        # A region has some of the types only.
        pages = (
            clients.ec2(self.cloud).get_paginator("describe_instance_type_offerings").paginate(LocationType="region")
        )
        offered = {str(item["InstanceType"]) for page in pages for item in page["InstanceTypeOfferings"]}
        return [name for name in plans.SPOT_TYPES if name in offered] or ["optimal"]

    def _submit(self, knot: str, elements: Sequence[tuple[int, str]]) -> MapFuture:
        return self._knots[knot].map(elements, progress=False)

    def _map(self) -> str:
        self._maps["all"] = future = self._submit(self.plan.fargate, [(number, "") for number in NUMBERS])
        return _expect(future.result(self.plan.result_seconds), [number * number for number in NUMBERS])

    def _fail(self) -> str:
        elements = [(number, "fail" if number == FAILING else "") for number in range(4)]
        self._maps["failed"] = future = self._submit(self.plan.fargate, elements)
        error = future[FAILING].exception(self.plan.result_seconds)
        _expect((type(error), str(error)), (ValueError, f"element {FAILING} fails on purpose"))
        others = [number for number in range(4) if number != FAILING]
        return _expect([future[number].result(self.plan.result_seconds) for number in others], [n * n for n in others])

    def _retry(self) -> str:
        future = self._maps["failed"].retry_failed(progress=False)
        return _expect(future.result(self.plan.result_seconds), [number * number for number in range(4)])

    def _reduce(self) -> str:
        total = self._maps["all"].job.reduce(sum, progress=False)
        return _expect(total.result(self.plan.result_seconds), sum(number * number for number in NUMBERS))

    def _read_logs(self) -> str:
        job, wanted = self._maps["all"].job, [f"cloudknot-selftest: element {number}" for number in NUMBERS]
        # CloudWatch Logs shows a line some seconds after the job has printed it.
        found = self._look(lambda: set(job.logs()), set(wanted).issubset, PAUSE)
        _expect(sorted(set(wanted) & found), wanted)
        return _expect(len(job.log_urls), len(NUMBERS))

    def _attach(self) -> str:
        job = self._maps["all"].job
        return _expect(results_elsewhere(self.choice, self.plan.fargate, job.job_id), [n * n for n in NUMBERS])

    def _map_on_spot(self) -> str:
        elements = [(number, "fail once" if number == 0 else "") for number in range(plans.SPOT_JOBS)]
        future = self._submit(self.plan.spot, elements)
        _expect(future.result(self.plan.result_seconds), [number * number for number in range(plans.SPOT_JOBS)])
        # Batch reports the end of an attempt some time after its results can be read.
        self._look(lambda: future.job.status, ENDED.__contains__, SHORT_PAUSE)
        return f"{plans.SPOT_JOBS} elements, {len(future.job.attempts)} attempts"

    def _look(self, look: Callable[[], T], is_there: Callable[[T], bool], pause: float) -> T:
        """Look until AWS shows a wanted state, for at most `LAG` seconds. Return the result of the last look."""
        waited, found = 0.0, look()
        while not is_there(found) and waited < LAG:
            self.sleep(pause)
            waited += pause
            found = look()
        return found

    def _remove(self) -> str:
        assert self._before is not None
        bucket_too = self._before.kinds[BUCKET] == {}
        errors: list[CloudknotError] = []
        for look in range(LOOKS):
            errors = remove_all(self.cloud, self.plan, bucket_too=bucket_too)
            # An interrupted session may still be making a resource, and AWS lists deleted ones for some time.
            self.report.left = take_inventory(self.cloud, self.plan).of(self.plan.token)
            if not (errors or self.report.left):
                return ""
            if any(isinstance(error, PermissionDeniedError) for error in errors):
                break
            if look < LOOKS - 1:
                self.sleep(PAUSE)
        if errors:
            raise errors[0]
        raise UnexpectedError(f"Some resources still exist. To delete them, run:\n{commands(self.plan)}")

    def _compare(self) -> str:
        assert self._before is not None
        self.report.inventory = rows = compare(self._before, take_inventory(self.cloud, self.plan), self.plan.token)
        self.report.left = [f"{row.kind}: {name}" for row in rows for name in row.left]
        _expect(self.report.left, [])
        # Other people may work in the account meanwhile, so this is no failure.
        gone = sum(row.others_gone for row in rows)
        return f"{gone} resources that the check did not make are gone" if gone else "nothing is left, nothing is gone"


def _line(error: Exception) -> str:
    """Return the type of an error and the beginning of its message: the report has the traceback of the first only."""
    return shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")


def _expect(found: object, wanted: object) -> str:
    """Raise `UnexpectedError` unless both are equal."""
    if found != wanted:
        raise UnexpectedError(f"Expected {wanted!r}, and found {found!r}.")
    return ""
