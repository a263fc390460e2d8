"""The commands that start, show and stop the embedded cloud."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING

import click

from cloudknot.cli.output import AS_JSON, confirm, echo_json
from cloudknot.local.runners.choice import RUNNERS

if TYPE_CHECKING:
    from cloudknot.local import LocalCloud


@click.group()
def local() -> None:
    """Manage the embedded cloud on this machine.

    The embedded cloud answers as AWS does, so you can try cloudknot without an AWS account.
    """


DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False),
    help="The directory for its files. Default: ~/.cache/cloudknot/local.",
)


@local.command()
@DIRECTORY
@click.option("--vcpus", type=click.IntRange(min=1), help="The vCPUs for all jobs. Default: those of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port on 127.0.0.1. Default: a free port.")
@click.option(
    "--runner",
    type=click.Choice(list(RUNNERS)),
    help="Run each job as a process of this machine, or in a container of its image. Default: process.",
)
# The login of the registry has no option, because other users of the machine could read it in the list of processes.
@click.option("--registry", metavar="HOST:PORT", help="The image registry for the docker runner.")
# None, the default, is compatible with any running cloud. False would be an error if it was started with --iam.
@click.option(
    "--iam", is_flag=True, default=None, help="Accept access keys created in IAM, and enforce their policies."
)
def start(
    directory: str | None,
    vcpus: int | None,
    port: int | None,
    runner: str | None,
    registry: str | None,
    iam: bool | None,
) -> None:
    """Start the embedded cloud, if it is not running.

    The login for the registry comes from the environment variables CLOUDKNOT_REGISTRY_USERNAME and
    CLOUDKNOT_REGISTRY_PASSWORD.
    """
    from cloudknot.local import LocalCloud

    cloud = LocalCloud(directory, vcpus=vcpus, port=port, runner=runner, registry=registry, iam=iam)
    cloud.start()
    click.echo(f"The embedded cloud is running at {cloud.endpoint_url}. It stops after a day without use.")


SHOWN = ("endpoint", "pid", "vcpus", "runner", "registry", "uptime", "idle", "jobs")
"""The fields of a `CloudStatus` that ``local status --json`` prints. The others are for the developers."""


@local.command()
@DIRECTORY
@AS_JSON
def status(directory: str | None, as_json: bool) -> None:
    """Show whether the embedded cloud is running, and its jobs."""
    from cloudknot.local import LocalCloud

    state = LocalCloud(directory).status()
    if as_json:
        echo_json({name: getattr(state, name) for name in SHOWN} if state else None)
        raise SystemExit(0 if state else 1)
    if state is None:
        click.echo("The embedded cloud is not running. Start it with `cloudknot local start`, or use it from Python.")
        # Exit code 1 lets a shell script test for a running cloud.
        raise SystemExit(1)
    click.echo(f"The embedded cloud is running at {state.endpoint} (process {state.pid}, {state.vcpus} vCPUs).")
    if state.registry is not None:
        click.echo(f"Jobs run in containers. Their images are in the registry {state.registry}.")
    click.echo(f"It started {_duration(state.uptime)} ago and was last used {_duration(state.idle)} ago.")
    jobs = ", ".join(f"{number} {name}" for name, number in state.jobs.items() if number) or "none"
    click.echo(f"Jobs: {jobs}.")


@local.command()
@DIRECTORY
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def stop(directory: str | None, yes: bool) -> None:
    """Stop the embedded cloud and delete its results.

    Running jobs end. Installed environments and images are kept. Asks before it ends jobs or deletes results.
    """
    from cloudknot.local import LocalCloud
    from cloudknot.local.runners.images.prune import remaining_size

    cloud = LocalCloud(directory)
    if not yes and (losses := _losses(cloud)):
        click.echo("\n".join(losses))
        confirm("Stop the embedded cloud?")
    stopped = cloud.stop()
    click.echo("The embedded cloud has stopped." if stopped else "The embedded cloud was not running.")
    remaining = remaining_size(cloud.directory)
    if remaining:
        options = f" --directory {quote(directory)}" if directory else ""
        click.echo(f"Its images and installed packages stay for the next start ({_size(remaining)}).")
        click.echo(f"Remove them with `cloudknot local prune{options}`.")


def _losses(cloud: LocalCloud) -> list[str]:
    """Return lines about the running jobs and the stored results that end with the cloud."""
    from cloudknot.aws.batch import LIVE_STATES
    from cloudknot.run.submit.stored_runs import all_runs

    state = cloud.status()
    if state is None:
        return []
    losses = []
    if live := sum(state.jobs.get(name, 0) for name in LIVE_STATES):
        losses.append(f"{_number(live, 'job')} will end.")
    for knot, maps in sorted(all_runs(cloud).items()):
        losses.append(f"The results of {_number(maps, 'map')} of the knot {knot} will be deleted.")
    return losses


@local.command()
@DIRECTORY
@click.option("--days", type=click.FloatRange(min=0), default=0.0, help="Keep what was used within this many days.")
def prune(directory: str | None, days: float) -> None:
    """Remove images and installed packages that no knot uses.

    Knots and jobs of the running embedded cloud keep theirs. Packages are installed again when a knot needs them.
    Above 10 GB, or CLOUDKNOT_LOCAL_GB, new images remove those used least recently without this command.
    """
    from cloudknot.local import LocalCloud

    pruned = LocalCloud(directory).prune(days)
    click.echo(
        f"Removed {_number(pruned.environments, 'environment')} with installed packages and "
        f"{_number(pruned.images, 'image')}: {_size(pruned.freed)} freed."
    )
    if pruned.kept:
        reason = f"used within {days:g} days, or in use" if days else "in use"
        click.echo(f"{_number(pruned.kept, 'environment')} ({_size(pruned.size)}) remain: {reason}.")


_SHELLS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={quote(value)}",
    # Inside single quotes, PowerShell reads two of them as one.
    "powershell": lambda name, value: f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'",
    "cmd": lambda name, value: f'set "{name}={value}"',
}
"""The command of each shell that sets a variable."""


@local.command()
@DIRECTORY
@click.option("--shell", type=click.Choice(list(_SHELLS)), default="sh", help="The shell's language. Default: sh.")
def env(directory: str | None, shell: str) -> None:
    """Print shell variables for AWS tools and workers.

    With these variables, the AWS command line and a worker that you start yourself use the embedded cloud. This
    command starts the embedded cloud if it is not running.

    Example: eval "$(cloudknot local env)"

    In PowerShell: cloudknot local env --shell powershell | Out-String | Invoke-Expression

    In PowerShell, with the embedded cloud inside WSL: wsl cloudknot local env --shell powershell | Out-String |
    Invoke-Expression
    """
    from cloudknot.local import LocalCloud

    for name, value in LocalCloud(directory).environment().items():
        click.echo(_SHELLS[shell](name, value))


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    """Return a duration in a readable unit, such as ``"1.5 h"``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
