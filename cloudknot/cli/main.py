"""The ``cloudknot`` command with its sub-commands."""

from __future__ import annotations

import warnings

import click

from cloudknot import __version__
from cloudknot.cli import configure, images, jobs, knots
from cloudknot.cli.printing import permissions, template
from cloudknot.cli.selftest import command as selftest
from cloudknot.errors import CloudknotError


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"Warning: {message}", err=True)


class _Group(click.Group):
    """A group that shows cloudknot's own errors and warnings without lines of Python."""

    # `local` imports the embedded cloud, which other commands do not need and which may not be installed. So its name
    # is listed here, and its module is loaded at its first use.
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "local"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "local":
            return super().get_command(ctx, cmd_name)
        from cloudknot.cli.local import local

        return local

    def invoke(self, ctx: click.Context) -> object:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except CloudknotError as error:
            raise click.ClickException(str(error)) from error


# A context hands the names of the help option down to all sub-commands.
@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cloudknot")
def main() -> None:
    """List and delete knots, look into their jobs, get results, and manage the embedded cloud.

    cloudknot runs your own Python function on AWS Batch, or on this machine. You create knots and submit maps in
    Python, with cloudknot.Knot.
    """


for command in (
    *(configure.configure, knots.list_command, knots.clobber, permissions.permissions),
    *(images.image, images.prune, selftest.selftest, template.template),
    *(jobs.jobs, jobs.status, jobs.logs, jobs.errors, jobs.result, jobs.retry, jobs.cancel),
):
    main.add_command(command)
