"""The commands for the embedded cloud: start it, look at it, stop it."""

from __future__ import annotations

import click

from cloudknot.local.runners.choice import RUNNERS


@click.group()
def local() -> None:
    """The embedded cloud: an AWS-compatible cloud on this machine, for trying things out without an account."""


DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False),
    help="Where it keeps its files. Default: ~/.cache/cloudknot/local.",
)


@local.command()
@DIRECTORY
@click.option("--vcpus", type=click.IntRange(min=1), help="vCPUs that jobs share. Default: this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port on 127.0.0.1. Default: any free one.")
@click.option(
    "--runner",
    type=click.Choice(list(RUNNERS)),
    help="What a job is: a process of this machine, or a container of its image. Default: process.",
)
@click.option(
    "--registry", metavar="HOST:PORT", help="For the docker runner: where images are pushed to and pulled from."
)
@click.option(
    "--iam", is_flag=True, default=None, help="Let in keys that are made by IAM, and hold them to their policies."
)
def start(
    directory: str | None,
    vcpus: int | None,
    port: int | None,
    runner: str | None,
    registry: str | None,
    iam: bool | None,
) -> None:
    """Start the embedded cloud, unless it runs already.

    The registry's login is taken from CLOUDKNOT_REGISTRY_USERNAME and CLOUDKNOT_REGISTRY_PASSWORD.
    """
    from cloudknot.local import LocalCloud

    cloud = LocalCloud(directory, vcpus=vcpus, port=port, runner=runner, registry=registry, iam=iam)
    cloud.start()
    click.echo(f"The embedded cloud runs at {cloud.endpoint_url}. It ends by itself after a day without use.")


@local.command()
@DIRECTORY
def status(directory: str | None) -> None:
    """Tell whether the embedded cloud runs, and what it does."""
    from cloudknot.local import LocalCloud

    found = LocalCloud(directory).status()
    if found is None:
        click.echo("The embedded cloud does not run. `cloudknot local start` starts it; so does its first use.")
        raise SystemExit(1)
    click.echo(f"The embedded cloud runs at {found.endpoint} (process {found.pid}, {found.vcpus} vCPUs).")
    if found.registry is not None:
        click.echo(f"Jobs are containers; images are in the registry {found.registry}.")
    click.echo(f"Up for {_span(found.uptime)}, last used {_span(found.idle)} ago.")
    jobs = ", ".join(f"{number} {state}" for state, number in found.jobs.items() if number) or "none"
    click.echo(f"Jobs: {jobs}.")


@local.command()
@DIRECTORY
def stop(directory: str | None) -> None:
    """Stop the embedded cloud. Running jobs end, and what it stored is gone."""
    from cloudknot.local import LocalCloud

    stopped = LocalCloud(directory).stop()
    click.echo("The embedded cloud has stopped." if stopped else "The embedded cloud does not run.")


@local.command()
@DIRECTORY
def env(directory: str | None) -> None:
    """Print shell variables that point AWS's own tools, and a worker run by hand, at the embedded cloud.

    Starts it if it does not run.

    Use: eval "$(cloudknot local env)"
    """
    from cloudknot.local import LocalCloud

    for name, value in LocalCloud(directory).environment().items():
        click.echo(f"export {name}={value}")


def _span(seconds: float) -> str:
    """Seconds as people say them."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
