"""The command that prints the CloudFormation templates."""

from __future__ import annotations

import click


@click.command(short_help="Print a CloudFormation template of cloudknot.")
@click.argument("kind", type=click.Choice(["knot", "pars", "build"]))
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="Write to this file instead of the terminal.")
def template(kind: str, output: str | None) -> None:
    """Print a CloudFormation template of cloudknot.

    \b
    knot   the resources of a knot:       Knot(..., template="mine.yaml")
    pars   the shared roles and network:  Pars(..., template="mine.yaml")
    build  the project for image builds on AWS CodeBuild, only to read

    The file is valid as it is: `cfn-lint mine.yaml` checks it.

    Example: cloudknot template knot -o mine.yaml
    """
    from pathlib import Path

    from cloudknot.deploy.cloudformation.template import load

    if output is None:
        click.echo(load(kind), nl=False)
        return
    try:
        with Path(output).open("x", encoding="utf-8", newline="\n") as file:
            file.write(load(kind))
    except OSError as error:
        raise click.ClickException(
            f"{output} cannot be written: {error.strerror or error}. Pass another file: "
            f"`cloudknot template {kind} -o FILE`."
        ) from error
