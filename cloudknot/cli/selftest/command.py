"""The command that checks cloudknot on a real account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudknot import __version__
from cloudknot.cli.choice import choose_from, of_a_cloud
from cloudknot.cli.output import confirm

if TYPE_CHECKING:
    from cloudknot.cli.selftest.report import Report

WHERE = "https://github.com/nrdg/cloudknot/issues"


@click.command(short_help="Check cloudknot on your account, and write a report.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report: Markdown, or JSON for a name that ends in .json. Default: cloudknot-selftest-....md here.",
)
@of_a_cloud
def selftest(yes: bool, output: Path | None, cloud: str | None, region: str | None, profile: str | None) -> None:
    """Check cloudknot on your account, and write a report.

    The check makes one knot on Fargate and one on EC2 Spot, with a Pars and an
    image repository of their own. It maps, fails on purpose, retries, reduces,
    reads logs and attaches from a second process. At the end it removes all of
    its resources, also after Ctrl-C.
    """
    from cloudknot.cli.selftest.check import Check
    from cloudknot.cli.selftest.plan import FARGATE_JOBS, SPOT_JOBS, Plan, cost
    from cloudknot.cli.selftest.report import Hide
    from cloudknot.cli.selftest.second_session import CloudChoice

    chosen, plan, amount = choose_from(cloud, region, profile), Plan(), cost()
    file = output or Path(f"cloudknot-{plan.token}.md")
    click.echo(
        f"The check runs {FARGATE_JOBS + SPOT_JOBS} short jobs in {chosen.place}, in the account {chosen.account}. "
        f"The names of its resources contain {plan.token!r}, and it removes them at the end."
    )
    click.echo(
        f"On AWS it usually costs about ${amount.usual:.2f}, and at most ${amount.most:.2f}. These figures are "
        "computed from the jobs and machines, their time limits, and list prices."
    )
    if not yes:
        confirm("Start?")
    hide = Hide({name: shown for name, shown in ((chosen.profile, "<profile>"), (chosen.bucket, "<bucket>")) if name})
    as_json = file.suffix == ".json"
    # Before anything is made: a report that cannot be written is of no use.
    write(file, "")
    check = Check(
        chosen,
        CloudChoice(cloud, region, profile),
        click.echo,
        lambda report: write(file, report.text(hide, as_json)),
        __version__,
        plan,
    )
    report = check.run()
    click.echo(f"The report is {file}. It has no account number, key or user name. Send it in, please: {WHERE}.")
    conclude(report, file)


def conclude(report: Report, file: Path) -> None:
    """Print the result of a check; raise for a check that did not pass."""
    from cloudknot.cli.selftest.report import FAILED

    if report.interrupted:
        raise click.Abort
    if not report.ok:
        failed = ", ".join(step.title for step in report.steps if step.result == FAILED)
        raise click.ClickException(f"These steps of the check failed: {failed}. Read the report {file} for the cause.")
    click.echo("All steps passed.")


def write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(
            f"The report cannot be written to {file}: {error.strerror}. Pass --output with a file that you may write."
        ) from error
