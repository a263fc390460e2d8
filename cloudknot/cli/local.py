"""The commands that start, show, stop, prune and delete the embedded cloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING

import click

from cloudknot.cli.output import AS_JSON, confirm, echo_json
from cloudknot.local.runners.choice import RUNNERS

if TYPE_CHECKING:
    from cloudknot.local import CloudStatus, LocalCloud
    from cloudknot.local.session.usage import CloudUsage


@click.group()
def local() -> None:
    """Manage the embedded cloud on this machine.

    The embedded cloud answers as AWS does, so you can try cloudknot without an AWS account.
    """


DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False),
    help="The directory for its files. Default: ~/.local/share/cloudknot/local.",
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
# None, the default, is compatible with any running cloud, and is the choice of the last start.
@click.option(
    "--iam/--no-iam", default=None, help="Accept access keys created in IAM, and enforce their policies. Default: no."
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

    Without --runner, --registry and --iam, it has those of its last start.

    The login for the registry comes from the environment variables CLOUDKNOT_REGISTRY_USERNAME and
    CLOUDKNOT_REGISTRY_PASSWORD.
    """
    from cloudknot.local import LocalCloud

    cloud = LocalCloud(directory, vcpus=vcpus, port=port, runner=runner, registry=registry, iam=iam)
    cloud.start()
    click.echo(f"The embedded cloud is running at {cloud.endpoint_url}. It stops after a day without use.")


SHOWN = ("endpoint", "pid", "vcpus", "runner", "registry", "uptime", "idle", "jobs")
"""The fields of a `CloudStatus` that ``local status --json`` prints. The others are for the developers."""
_DISK = {"results": "results", "logs": "logs", "records": "records of jobs and stacks", "images": "installed packages"}
"""The words for the parts of the disk space, by their names in `CloudUsage`."""


@local.command()
@DIRECTORY
@AS_JSON
def status(directory: str | None, as_json: bool) -> None:
    """Show whether the embedded cloud is running, its jobs, and its use of disk and memory."""
    from cloudknot.local import LocalCloud

    cloud = LocalCloud(directory)
    state, usage = cloud.status(), cloud.usage()
    condition = "running" if state else _condition(cloud)
    if as_json:
        shown = {name: getattr(state, name, None) for name in SHOWN}
        echo_json({"state": condition, "directory": str(cloud.directory), **shown, **asdict(usage)})
    elif state is None:
        click.echo(_explain(condition, cloud))
    else:
        _show_running(state)
    if condition != "missing" and not as_json:
        _show_usage(cloud, usage)
    # Exit code 1 lets a shell script test for a running cloud.
    raise SystemExit(0 if state else 1)


def _condition(cloud: LocalCloud) -> str:
    """Return the condition of a cloud that does not answer: silent, stopped, ended, half deleted or missing."""
    from cloudknot.local.directory.deletion import is_half_deleted
    from cloudknot.local.directory.files import MARKER, server_lock
    from cloudknot.local.directory.locks import is_locked
    from cloudknot.local.directory.state import read_state

    if is_locked(server_lock(cloud.directory)):
        return "silent"
    if not (cloud.directory / MARKER).exists():
        return "missing"
    if is_half_deleted(cloud.directory):
        return "half deleted"
    return "ended" if read_state(cloud.directory) else "stopped"


def _explain(condition: str, cloud: LocalCloud) -> str:
    """Return the message about a cloud that does not answer."""
    from cloudknot.local.directory.files import log_file
    from cloudknot.local.options import local_command

    start, stop, delete = (f"`{local_command(name, cloud.directory)}`" for name in ("start", "stop", "delete"))
    place = f"The embedded cloud in {cloud.directory}"
    texts = {
        "silent": f"{place} does not answer, but its process runs. It may be starting or busy. Try again. If it does "
        f"not answer then, end it with {stop}.",
        "half deleted": f"The deletion of the embedded cloud in {cloud.directory} was interrupted. Run {delete} "
        f"again. Or create a new cloud with {start}, which deletes the rest of this one.",
        "missing": f"{_missing(cloud)} Create one with {start}, or use it from Python.",
        "ended": f"{place} has ended by a crash, a reboot or a day without use. Its knots and results are kept, and "
        f"jobs that ran are retried. Start it with {start}. An open session starts it by itself. "
        f"See the end of {log_file(cloud.directory)} for the cause of a crash.",
        "stopped": f"{place} is stopped. Its knots and results are kept. Start it with {start}.",
    }
    return texts[condition]


def _missing(cloud: LocalCloud) -> str:
    return f"There is no embedded cloud in {cloud.directory}."


def _show_running(state: CloudStatus) -> None:
    click.echo(f"The embedded cloud is running at {state.endpoint} (process {state.pid}, {state.vcpus} vCPUs).")
    if state.registry is not None:
        click.echo(f"Jobs run in containers. Their images are in the registry {state.registry}.")
    click.echo(f"It started {_duration(state.uptime)} ago and was last used {_duration(state.idle)} ago.")
    jobs = ", ".join(f"{number} {name}" for name, number in state.jobs.items() if number) or "none"
    click.echo(f"Jobs: {jobs}.")


def _show_usage(cloud: LocalCloud, usage: CloudUsage) -> None:
    sizes = {name: _size(size) for name, size in usage.disk.items()}
    sizes["results"] += f" ({_number(usage.objects, 'object')})"
    parts = ", ".join(f"{_DISK[name]} {size}" for name, size in sizes.items())
    click.echo(f"Disk: {parts}, in {cloud.directory}. {_size(usage.free)} are free.")
    if usage.memory:
        click.echo(f"Memory: server {_size(usage.memory['server'])}, jobs {_size(usage.memory['jobs'])}.")


@local.command()
@DIRECTORY
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def stop(directory: str | None, yes: bool) -> None:
    """Stop the embedded cloud. Its knots and results are kept.

    Asks if jobs run: they end, and are retried at the next start.
    """
    from cloudknot.aws.batch import LIVE_STATES
    from cloudknot.local import LocalCloud
    from cloudknot.local.options import local_command

    cloud = LocalCloud(directory)
    state = None if yes else cloud.status()
    if state and (live := sum(state.jobs.get(name, 0) for name in LIVE_STATES)):
        click.echo(f"{_number(live, 'job')} will end. {_them(live)} at the next start, as after the loss of a host.")
        confirm("Stop the embedded cloud?")
    condition = _condition(cloud)
    if not cloud.stop():
        texts = {
            "missing": _missing(cloud),
            "ended": f"The embedded cloud in {cloud.directory} had ended already, by a crash, a reboot or a day "
            "without use. Open sessions do not start it again.",
        }
        click.echo(texts.get(condition, f"The embedded cloud in {cloud.directory} was not running."))
        return
    click.echo("The embedded cloud has stopped. Its knots, results and installed packages are kept.")
    click.echo(f"Start it again with `{local_command('start', directory)}`.")
    click.echo(f"Delete everything with `{local_command('delete', directory)}`.")


@local.command()
@DIRECTORY
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(directory: str | None, yes: bool) -> None:
    """Stop the embedded cloud and delete its files: knots, results, jobs, logs and installed packages.

    Asks before it deletes anything. Other files in the directory stay.
    """
    from cloudknot.local import LocalCloud

    cloud = LocalCloud(directory)
    if _condition(cloud) == "missing":
        click.echo(_missing(cloud))
        return
    if not yes:
        for line in _losses(cloud):
            click.echo(line)
        confirm(f"Delete the embedded cloud in {cloud.directory}?")
    cloud.delete()
    click.echo(f"The embedded cloud in {cloud.directory} is deleted.")


def _losses(cloud: LocalCloud) -> list[str]:
    """Return lines about the jobs and the data that a deletion of the cloud ends."""
    from cloudknot.aws.batch import LIVE_STATES
    from cloudknot.run.submit.stored_runs import all_runs

    state, usage = cloud.status(), cloud.usage()
    losses = []
    if state is not None:
        if live := sum(state.jobs.get(name, 0) for name in LIVE_STATES):
            losses.append(f"{_number(live, 'job')} will end.")
        for knot, maps in sorted(all_runs(cloud).items()):
            losses.append(f"The results of {_number(maps, 'map')} of the knot {knot} will be deleted.")
    data = sum(usage.disk.values()) - usage.disk["images"]
    installed = f"{_size(usage.disk['images'])} of installed packages"
    results = f"Results ({_number(usage.objects, 'object')}), records and logs of {_size(data)}"
    losses.append(f"{results} will be deleted, and {installed}.")
    return losses


@local.command()
@DIRECTORY
@click.option("--days", type=click.FloatRange(min=0), default=0.0, help="Keep what was used within this many days.")
@click.option(
    "--runs", metavar="DAYS", type=click.FloatRange(min=0), help="Also delete ended runs that are older than this."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def prune(directory: str | None, days: float, runs: float | None, yes: bool) -> None:
    """Remove images and installed packages that no knot uses.

    Knots and jobs of the embedded cloud keep theirs. Packages are installed again when a knot needs them.
    Above 10 GB, or CLOUDKNOT_LOCAL_GB, new images remove those used least recently without this command.
    Unused space of the databases with results, logs and records is returned to the disk.

    With --runs, also deletes the inputs and results of runs that ended. Asks before it does so.
    """
    from cloudknot.local import LocalCloud
    from cloudknot.local.session.cloud import left_as_found

    cloud = LocalCloud(directory)
    with left_as_found(cloud):
        if runs is not None and _condition(cloud) != "missing":
            _prune_runs(cloud, runs, yes)
        pruned = cloud.prune(days)
    click.echo(
        f"Removed {_number(pruned.environments, 'environment')} with installed packages and "
        f"{_number(pruned.images, 'image')}: {_size(pruned.freed)} freed."
    )
    if pruned.kept:
        reason = f"used within {days:g} days, or in use" if days else "in use"
        click.echo(
            f"{_number(pruned.kept, 'environment')} ({_size(pruned.size)}) "
            f"{'remains' if pruned.kept == 1 else 'remain'}: {reason}."
        )


def _prune_runs(cloud: LocalCloud, days: float, yes: bool) -> None:
    """Delete the ended runs that were submitted more than ``days`` ago, after a question."""
    from datetime import UTC, datetime, timedelta

    from cloudknot.run.jobs.history import find_ended

    jobs = find_ended(cloud, datetime.now(UTC) - timedelta(days=days))
    if not jobs:
        click.echo(f"No run older than {days:g} {'day' if days == 1 else 'days'} has ended.")
        return
    for knot, runs in sorted(Counter(job.keys.knot for job in jobs).items()):
        click.echo(f"The inputs and results of {_number(runs, 'run')} of the knot {knot} will be deleted.")
    if not yes:
        confirm("Delete them?")
    for job in jobs:
        job.clobber()
    click.echo(f"Deleted {_number(len(jobs), 'run')}.")


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


def _them(number: int) -> str:
    return "It is retried" if number == 1 else "They are retried"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 10 * unit or name == "GB" else f"{size / unit:.0f} {name}"
    return f"{size / 1e3:.0f} kB"


def _duration(seconds: float) -> str:
    """Return a duration in a readable unit, such as ``"1.5 h"``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
