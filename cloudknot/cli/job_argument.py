"""The argument JOB of a command: the id of a job, or the name of a knot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cloudknot.cli.choice import Command
from cloudknot.errors import CloudknotError, ResourceDoesNotExistException
from cloudknot.options.validators import aws_name, near_matches

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.run.jobs.job import BatchJob

JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?P<child>:\d+)?")
"""An id of Batch. Errors name children, with their number in the array job at the end."""

RETRY = re.compile(r"future\.retry_failed\((?P<arguments>[^)]*)\)")
OPTION = re.compile(r"(\w+)=(\w+)")


def of_a_job(command: Command) -> Command:
    """Return the command with the argument JOB."""
    return click.argument("job", metavar="JOB")(command)


def find_job(cloud: Cloud, text: str) -> BatchJob:
    """Return the job that ``text`` names: by its id, by the id of its child, or the newest job of a knot.

    Raises
    ------
    ResourceDoesNotExistException
        There is no such job.
    """
    from cloudknot.deploy.account.buckets import clouds_of_knot
    from cloudknot.run.jobs.history import find_jobs
    from cloudknot.run.jobs.job import BatchJob

    if JOB_ID.fullmatch(text):
        job = BatchJob(text.partition(":")[0], cloud=cloud)
        # Found now, so that a mistyped id has its error before any output.
        _ = job.manifest
        return job
    text = aws_name(text)
    jobs = find_jobs(clouds_of_knot(cloud, text), text, {})
    if not jobs:
        check_knot(cloud, text)
        raise ResourceDoesNotExistException(
            f"The knot {text!r} has no jobs. Submit one: Knot(name={text!r}).map(...)."
        )
    return jobs[-1]


def in_shell(text: str, cloud: Cloud, job: BatchJob) -> str:
    """Return a message with commands in place of the calls that a Python session would make."""

    def retry(call: re.Match[str]) -> str:
        options = " ".join(f"--{name} {value}" for name, value in OPTION.findall(call["arguments"]))
        return f"`{cloud.command(f'retry {job.job_id} {options}'.rstrip())}`"

    text = RETRY.sub(retry, text)
    return text.replace("job.terminate('reason')", f"`{cloud.command(f'cancel {job.job_id}')}`")


@contextmanager
def hints_for_shell(cloud: Cloud, job: BatchJob) -> Iterator[None]:
    """Raise the errors of the block with hints for a shell; see `in_shell`."""
    try:
        yield
    except CloudknotError as error:
        raise click.ClickException(in_shell(str(error), cloud, job)) from error


def check_knot(cloud: Cloud, name: str) -> None:
    """Check that a knot exists.

    Raises
    ------
    ResourceDoesNotExistException
        There is no knot of this name. The error lists near matches.
    """
    from cloudknot.deploy.inventory import list_knots

    names = [knot.name for knot in list_knots(cloud)]
    if name not in names:
        near = near_matches(name, names)
        matches = f" Near matches: {', '.join(near)}." if near else ""
        raise ResourceDoesNotExistException(
            f"There is no knot {name!r}, and no job of one.{matches} Run `{cloud.command('list')}` to see all knots."
        )
