"""The ``cloudknot`` command: its parts put together."""

from __future__ import annotations

import click

from cloudknot import __version__
from cloudknot.cli import knots, local, permissions
from cloudknot.errors import CloudknotError


class _Group(click.Group):
    """Shows an error of ours as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CloudknotError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="cloudknot")
def main() -> None:
    """Run your own Python function on AWS Batch, or on this machine."""


for command in (knots.list_command, knots.jobs, knots.clobber, permissions.permissions, local.local):
    main.add_command(command)
