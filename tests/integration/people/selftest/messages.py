"""Messages of the check of an account."""

from __future__ import annotations

from pathlib import Path

from cloudknot.cli.selftest.command import conclude, write
from cloudknot.cli.selftest.report import FAILED, Report, StepResult
from tests.integration.messages.catalogue import Area, World

AREA = Area("check of an account")


@AREA.case
def report_in_missing_folder(world: World) -> None:
    write(world.path / "missing" / "report.md", "")


@AREA.case
def failed_steps(world: World) -> None:
    report = Report("AWS", "us-east-1", "2026-11-30", {}, "little")
    report.steps.append(StepResult("map on Fargate", FAILED, 1.0, "KeyError"))
    conclude(report, Path("report.md"))
