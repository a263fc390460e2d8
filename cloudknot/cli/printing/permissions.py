"""The command that prints the IAM policy for a user."""

from __future__ import annotations

import click


@click.command()
@click.argument("level", type=click.Choice(["run", "create", "network", "build", "administer", "boundary"]))
@click.option("--account", help="The AWS account number. Default: the account of your credentials, else ACCOUNT_ID.")
@click.option("--region", help="The AWS region. Default: from the settings.")
@click.option("--bucket", help="The S3 bucket. Default: from the settings, else cloudknot's own bucket.")
@click.option("--repository", help="The image repository. Default: from the settings.")
@click.option("--boundary", default="", help="For create: the ARN of the permissions boundary that roles must have.")
@click.option("--policy", "policies", multiple=True, help="With --boundary: an ARN that pars_policies may name.")
@click.option("--knot", default="", help="With the policy run: the only knot that the user may use.")
@click.option("--compute", default="", help="With --knot: the knot whose queue that knot uses, if it has none.")
def permissions(
    level: str,
    account: str | None,
    region: str | None,
    bucket: str | None,
    repository: str | None,
    boundary: str,
    policies: tuple[str, ...],
    knot: str,
    compute: str,
) -> None:
    """Print an IAM policy that a user needs, as JSON.

    \b
    run         use existing knots: map, results, logs, cancel
    create      create, change and clobber knots
    network     create networks: Pars(use_default_vpc=False)
    build       build images on AWS CodeBuild, without a Docker engine
    administer  delete the images, repository and bucket of all knots
    boundary    no policy for a user: a permissions boundary for the roles

    A user with the policy create needs the policy run, too. A user with the
    policy network, build or administer needs both.

    Without --boundary, create is as powerful as administrator access.

    Example: cloudknot permissions run --account 123456789012 --knot pi-calc
    """
    import json

    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.permissions.policies import ACCOUNT, Scope, needed_with, policy
    from cloudknot.aws.sdk.regions import partition_of
    from cloudknot.aws.sdk.settings import profiles
    from cloudknot.options import config

    _check_account(account)
    _check_boundary(level, boundary, policies)
    _check_compute(knot, compute)
    place = profiles.region(region, profiles.profile()).value
    # An administrator may print a policy for others without credentials for the account.
    if not (account := account or Cloud(place).account_if_known()):
        # On stderr, because the policy may be redirected to a file. It comes first, because the policy is long.
        click.echo(f"Replace {ACCOUNT} with your AWS account number, or pass --account.", err=True)
    if others := ", ".join(f"cloudknot permissions {other}" for other in needed_with(level)):
        click.echo(f"The user also needs: {others}.", err=True)
    scope = Scope(
        account=account or ACCOUNT,
        region=place,
        bucket=bucket or config.bucket() or "",
        repository=repository or config.ecr_repo(),
        partition=partition_of(place),
        boundary=boundary,
        policies=policies,
        knot=knot,
        compute=compute,
        # The setting names the owner of the bucket of the settings.
        owner="" if bucket else config.bucket_owner() or "",
    )
    click.echo(json.dumps(policy(level, scope), indent=2))


def _check_account(account: str | None) -> None:
    """Raise unless the account is missing or an account number."""
    import re

    if account and not re.fullmatch(r"\d{12}", account):
        raise click.BadParameter(
            f"{account!r} is not an AWS account number of 12 digits. Pass for example --account 123456789012.",
            param_hint="--account",
        )


def _check_compute(knot: str, compute: str) -> None:
    """Raise for another knot's queue without a knot that uses it."""
    if compute and not knot:
        raise click.BadParameter(
            "it needs --knot. Without one, the policy covers the queues of all knots. Pass for example "
            "--knot pi-calc.",
            param_hint="--compute",
        )


def _check_boundary(level: str, boundary: str, policies: tuple[str, ...]) -> None:
    """Raise unless the boundary and the policies for jobs fit together."""
    import re

    from cloudknot.options.validators import POLICY_ARN_PATTERN

    if boundary and level != "create":
        raise click.BadParameter(
            "it is only for the policy create, since no other policy makes roles. Remove it, or print create.",
            param_hint="--boundary",
        )
    if policies and not boundary:
        raise click.BadParameter(
            "it needs --boundary. Without a boundary, a user can give jobs any permission by other means. "
            "Pass for example --boundary arn:aws:iam::123456789012:policy/lab-boundary.",
            param_hint="--policy",
        )
    for option, arn in [("--boundary", boundary), *(("--policy", name) for name in policies)]:
        # A name is not enough: the account and AWS may both have a policy of that name.
        plain = arn if option == "--boundary" else arn.replace("*", "x")
        if arn and not re.fullmatch(POLICY_ARN_PATTERN, plain):
            raise click.BadParameter(
                f"{arn!r} is not the ARN of an IAM policy. "
                f"Pass for example {option} arn:aws:iam::123456789012:policy/lab.",
                param_hint=option,
            )
