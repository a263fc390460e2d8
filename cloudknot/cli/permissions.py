"""The command that prints the IAM policy for a person."""

from __future__ import annotations

import click


@click.command()
@click.argument("level", type=click.Choice(["run", "create", "administer"]))
@click.option("--account", help="AWS account number. Default: that of your credentials, else ACCOUNT_ID.")
@click.option("--region", help="Default: the settings'.")
@click.option("--bucket", help="Default: the settings', else cloudknot's own.")
@click.option("--repository", help="Image repository. Default: the settings'.")
def permissions(
    level: str, account: str | None, region: str | None, bucket: str | None, repository: str | None
) -> None:
    """Print the IAM policy that somebody needs, as JSON.

    LEVEL is what it is for: run uses knots that exist (map, results, logs, cancel); create also makes and changes
    knots, and removes them again; administer also deletes the images that knots share.

    Use: cloudknot permissions run --account 123456789012
    """
    import json
    import re

    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.permissions import policies
    from cloudknot.aws.regions import partition_of
    from cloudknot.options import config

    if account and not re.fullmatch(r"\d{12}", account):
        raise click.BadParameter("an AWS account number is 12 digits and nothing else.", param_hint="--account")
    place = config.region(region, config.profile())
    if not (account := account or Cloud(place).account_if_known()):
        # Before the policy, which is long, and apart from it, since it may go to a file.
        click.echo(f"Replace {policies.ACCOUNT} by the number of your AWS account, or give --account.", err=True)
    scope = policies.Scope(
        account=account or policies.ACCOUNT,
        region=place,
        bucket=bucket or config.bucket() or "",
        repository=repository or config.ecr_repo(),
        partition=partition_of(place),
    )
    click.echo(json.dumps(policies.policy(level, scope), indent=2))
