"""The commands for the jobs of a knot: list them, look into one, get its results, run it again, end it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudknot.cli.choice import choose_from, of_a_cloud
from cloudknot.cli.job_argument import check_knot, find_job, hints_for_shell, in_shell, of_a_job
from cloudknot.cli.output import AS_JSON, as_time, echo_json, echo_table
from cloudknot.options.validators import aws_name

if TYPE_CHECKING:
    from cloudknot.run.jobs.history import JobStatus


@click.command()
@click.argument("name")
@AS_JSON
@of_a_cloud
def jobs(name: str, as_json: bool, cloud: str | None, region: str | None, profile: str | None) -> None:
    """List the jobs of a knot, the oldest first.

    NAME is the name of the knot. If it was clobbered and its results were kept, its jobs are still listed.
    """
    from cloudknot.deploy.account.buckets import clouds_of_knot
    from cloudknot.run.jobs.history import find_jobs, job_statuses

    name, chosen = aws_name(name), choose_from(cloud, region, profile)
    # The buckets come from the knot's job definitions. Batch shows those of a clobbered knot for 180 days.
    clouds = clouds_of_knot(chosen, name)
    found = job_statuses(chosen, find_jobs(clouds, name, {}))
    if not found:
        check_knot(chosen, name)
    if as_json:
        echo_json([_as_record(item) for item in found])
    elif found:
        echo_table(("Job ID", "Submitted (UTC)", "Status"), [_as_row(item) for item in found])
        for explanation in filter(None, (item.explanation for item in found)):
            click.echo(explanation)
    else:
        click.echo(f"The knot {name!r} has no jobs in {', '.join(place.bucket for place in clouds)}.")


def _as_row(found: JobStatus) -> tuple[str, str, str]:
    return found.job.job_id, as_time(found.job.submitted), found.status


def _as_record(found: JobStatus) -> dict[str, object]:
    job = found.job
    return {
        "job_id": job.job_id,
        "name": job.name,
        "submitted": job.submitted,
        "status": found.status,
        "job_queue": job.job_queue,
        "job_definition": job.job_definition,
        "url": job.keys.url,
    }


@click.command()
@of_a_job
@AS_JSON
@of_a_cloud
def status(job: str, as_json: bool, cloud: str | None, region: str | None, profile: str | None) -> None:
    """Show the state of a job, and the numbers of its elements.

    JOB is the id of a job, or the name of a knot, which stands for its newest job.
    """
    found = find_job(choose_from(cloud, region, profile), job)
    progress, manifest = found.progress(), found.manifest
    pending = manifest.count - progress.ended
    elements = {"done": progress.done, "failed": progress.failed, "cancelled": progress.cancelled, "pending": pending}
    record: dict[str, object] = {
        "job_id": found.job_id,
        "knot": manifest.knot,
        "function": manifest.function,
        "submitted": found.submitted,
        "status": str(found.status),
        "reason": found.status_reason,
        "elements": {"all": manifest.count, **elements},
        "child_jobs": dict(progress.states),
        "image": manifest.image,
    }
    if as_json:
        echo_json(record)
        return
    record["submitted"] = f"{as_time(found.submitted)} UTC"
    record["elements"] = f"{manifest.count}: {_counts(elements)}"
    record["child_jobs"] = _counts(progress.states)
    for name, value in record.items():
        if value:
            click.echo(f"{name.replace('_', ' ') + ':':<12}{value}")


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number)


@click.command()
@of_a_job
@click.option("--traceback", is_flag=True, help="Also print the traceback from the job.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most errors to print.")
@AS_JSON
@of_a_cloud
def errors(
    job: str, traceback: bool, limit: int, as_json: bool, cloud: str | None, region: str | None, profile: str | None
) -> None:
    """Show the failed elements of a job, each with its exception.

    JOB is the id of a job, or the name of a knot, which stands for its newest job. Exits with 1 if elements have
    failed.
    """
    from itertools import islice

    chosen = choose_from(cloud, region, profile)
    found = find_job(chosen, job)
    failed = found.progress().failed
    pairs = islice(found.errors(), limit)
    if as_json:
        echo_json([{"index": index, "type": type(error).__name__, "message": str(error)} for index, error in pairs])
    else:
        for index, error in pairs:
            click.echo(f"Element {index}: {type(error).__name__}: {in_shell(str(error), chosen, found)}")
            if traceback and error.__cause__ is not None:
                click.echo(str(error.__cause__).strip().strip('"').strip())
        click.echo(f"Failed: {failed} of {found.manifest.count} elements.")
        if failed > limit:
            click.echo(f"The first {limit} are shown. Pass --limit {failed} to see all.")
    if failed:
        raise SystemExit(1)


@click.command()
@of_a_job
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--follow", "-f", is_flag=True, help="Wait for more lines until the job has ended.")
@AS_JSON
@of_a_cloud
def logs(
    job: str,
    index: int | None,
    follow: bool,
    as_json: bool,
    cloud: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Print the output of a job, or of the element INDEX.

    JOB is the id of a job, or the name of a knot, which stands for its newest job. With --json, each line is an object
    with the number of the child job, its attempt and the message.
    """
    output = find_job(choose_from(cloud, region, profile), job)._output(index)
    for line in output.follow() if follow else output.lines():
        click.echo(json.dumps(line._asdict()) if as_json else output.labelled(line))


@click.command(short_help="Wait for the results of a job, and print or store them.")
@of_a_job
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("-o", "--output", "file", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait. Default: until the job has ended.")
@AS_JSON
@of_a_cloud
def result(
    job: str,
    index: int | None,
    file: Path | None,
    timeout: float | None,
    as_json: bool,
    cloud: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Wait for results, and print or store them.

    These are the results of all elements, or the result of the element INDEX.

    JOB is the id of a job, or the name of a knot, which stands for its newest job. A FILE whose name ends with .json
    gets JSON, any other one a pickle. Without FILE, each result is printed on a line.
    """
    from cloudknot.cli.results import check_file, result_of, store, text_of

    if file is not None:
        check_file(file)
    chosen = choose_from(cloud, region, profile)
    found = find_job(chosen, job)
    with hints_for_shell(chosen, found):
        value = result_of(found, index, timeout, chosen.command(f"errors {found.job_id}"))
    if file is not None:
        click.echo(store(value, file, as_json))
    else:
        click.echo(text_of(value, is_list=index is None, as_json=as_json), nl=False)


@click.command()
@of_a_job
@click.option("--memory", help="MiB for each child job, or a text such as '8 GiB'. Default: as before.")
@click.option("--vcpus", type=click.IntRange(min=1), help="vCPUs for each child job. Default: as before.")
@click.option("--timeout", type=click.IntRange(min=1), help="Seconds for each attempt. Default: as before.")
@click.option("--retries", type=click.IntRange(min=1), help="Attempts of each child job. Default: as before.")
@click.option("--chunksize", type=click.IntRange(min=1), help="Elements for each child job.")
@click.option("--new-function", is_flag=True, help="Run the present function of the knot. Default: as before.")
@of_a_cloud
def retry(
    job: str,
    memory: str | None,
    vcpus: int | None,
    timeout: int | None,
    retries: int | None,
    chunksize: int | None,
    new_function: bool,
    cloud: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Run the failed elements of a job again. Stored results are kept.

    JOB is the id of a job, or the name of a knot, which stands for its newest job.
    """
    chosen = choose_from(cloud, region, profile)
    found = find_job(chosen, job)
    failed = found.progress().failed
    earlier = found.job_ids
    knot = found.manifest.knot if new_function else None
    # `retry_failed` takes a number without a unit as an int.
    amount = int(memory) if memory and memory.isdecimal() else memory
    with hints_for_shell(chosen, found):
        found.retry_failed(amount, timeout, vcpus, retries, knot=knot, chunksize=chunksize, progress=False)
    if found.job_ids == earlier:
        click.echo("No element has failed. Nothing was submitted.")
    else:
        click.echo(
            f"Submitted {', '.join(found.job_ids)}, which runs {failed} of {found.manifest.count} elements again."
        )


@click.command()
@of_a_job
@click.option("--reason", default="Cancelled with `cloudknot cancel`", help="The reason, for the errors of elements.")
@of_a_cloud
def cancel(job: str, reason: str, cloud: str | None, region: str | None, profile: str | None) -> None:
    """End a job with its running child jobs. Stored results are kept.

    JOB is the id of a job, or the name of a knot, which stands for its newest job.
    """
    chosen = choose_from(cloud, region, profile)
    found = find_job(chosen, job)
    if found.done:
        click.echo(f"The job {found.job_id} had already ended.")
        return
    found.terminate(reason)
    again = chosen.command(f"retry {found.job_id}")
    click.echo(f"The job {found.job_id} is being ended. Then run the missing elements again with `{again}`.")
