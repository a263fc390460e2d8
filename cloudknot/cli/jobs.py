"""The commands for the jobs of a knot."""

from __future__ import annotations

import click

from cloudknot.cli.choice import choose_from, of_a_cloud


@click.command()
@click.argument("name")
@of_a_cloud
def jobs(name: str, cloud: str | None, region: str | None, profile: str | None) -> None:
    """List the jobs of a knot, the oldest first.

    NAME is the name of the knot. If it was clobbered and its results were kept, its jobs are still listed.
    """
    from cloudknot.deploy.account.buckets import clouds_of_knot
    from cloudknot.run.jobs.history import find_jobs, jobs_table

    chosen = choose_from(cloud, region, profile)
    # The buckets come from the knot's job definitions. Batch shows those of a clobbered knot for 180 days.
    clouds = clouds_of_knot(chosen, name)
    runs = find_jobs(clouds, name, {})
    buckets = ", ".join(place.bucket for place in clouds)
    click.echo(jobs_table(chosen, runs) if runs else f"The knot {name!r} has no jobs in {buckets}.")
