"""The command that prints the IAM policy for a user."""

from __future__ import annotations

import click


@click.command()
@click.argument("level", type=click.Choice(["run", "create", "administer"]))
@click.option("--account", help="The AWS account number. Default: the account of your credentials, else ACCOUNT_ID.")
@click.option("--region", help="The AWS region. Default: from the settings.")
@click.option("--bucket", help="The S3 bucket. Default: from the settings, else cloudknot's own bucket.")
@click.option("--repository", help="The image repository. Default: from the settings.")
def permissions(
    level: str, account: str | None, region: str | None, bucket: str | None, repository: str | None
) -> None:
    """Print the IAM policy that a user needs, as JSON.

    \b
    run         use existing knots: map, results, logs, cancel
    create      also create, change and clobber knots
    administer  also delete the images, repository and bucket of all knots

    Example: cloudknot permissions run --account 123456789012
    """
    import json
    import re

    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.permissions import policies
    from cloudknot.aws.sdk.regions import partition_of
    from cloudknot.options import config

    if account and not re.fullmatch(r"\d{12}", account):
        raise click.BadParameter(
            f"{account!r} is not an AWS account number of 12 digits. Pass for example --account 123456789012.",
            param_hint="--account",
        )
    place = config.region(region, config.profile())
    # An administrator may print a policy for others without credentials for the account.
    if not (account := account or Cloud(place).account_if_known()):
        # On stderr, because the policy may be redirected to a file. It comes first, because the policy is long.
        click.echo(f"Replace {policies.ACCOUNT} with your AWS account number, or pass --account.", err=True)
    scope = policies.Scope(
        account=account or policies.ACCOUNT,
        region=place,
        bucket=bucket or config.bucket() or "",
        repository=repository or config.ecr_repo(),
        partition=partition_of(place),
    )
    click.echo(json.dumps(policies.policy(level, scope), indent=2))
