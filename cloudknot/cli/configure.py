"""The command that saves the settings, by questions or by options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from cloudknot.errors import CloudknotError
from cloudknot.options.streams import is_terminal


@dataclass(frozen=True)
class SavedSetting:
    """A setting that the command asks for."""

    question: str
    current: Callable[[], str]
    """Returns the present value, or a description of the default."""
    save: Callable[[str], None]
    variables: tuple[str, ...]
    """Environment variables that win over the saved value."""


def _settings() -> dict[str, SavedSetting]:
    """Return the settings by the names of their options, in the order of the questions."""
    from cloudknot.aws import settings
    from cloudknot.options import config

    def bucket(name: str) -> None:
        # The owner is that of another bucket, but policy and encryption are the user's choice for any.
        settings.set_s3_params(name, config.bucket_policy(), config.sse())

    return {
        "profile": SavedSetting(
            "AWS profile",
            lambda: settings.get_profile() or config.FROM_ENVIRONMENT,
            settings.set_profile,
            ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID"),
        ),
        "region": SavedSetting(
            "AWS region", settings.get_region, settings.set_region, ("AWS_REGION", "AWS_DEFAULT_REGION")
        ),
        "s3_bucket": SavedSetting(
            "S3 bucket for inputs and results",
            lambda: config.bucket() or "one that cloudknot creates",
            bucket,
            ("CLOUDKNOT_S3_BUCKET",),
        ),
        "ecr_repo": SavedSetting(
            "ECR repository for images", settings.get_ecr_repo, settings.set_ecr_repo, ("CLOUDKNOT_ECR_REPO",)
        ),
    }


@click.command(short_help="Save your settings.")
@click.option("--profile", help="The AWS profile with your credentials, from `aws configure`.")
@click.option("--region", help="The AWS region, for example eu-west-1.")
@click.option("--s3-bucket", help="The S3 bucket for inputs and results.")
@click.option("--ecr-repo", help="The ECR repository for images.")
def configure(**options: str | None) -> None:
    """Save profile, region, bucket and repository.

    Without options, the command asks for each, and Enter keeps the value in
    brackets. It creates nothing in AWS, and does not ask for access keys: run
    `aws configure` for them.

    \b
    Examples:
      cloudknot configure
      cloudknot configure --region eu-west-1 --s3-bucket my-lab-results
    """
    from cloudknot.options import config

    settings = _settings()
    given = {name: value for name in settings if (value := options[name]) is not None}
    if given:
        for name, value in given.items():
            settings[name].save(value)
    else:
        given = _ask_for_all(settings)
    click.echo(f"Saved {', '.join(given).replace('_', '-')} in {config.path()}." if given else "Nothing was changed.")
    for name, value in given.items():
        for variable in settings[name].variables:
            if os.environ.get(variable, value) != value:
                click.echo(f"The environment variable {variable} wins over the saved {name.replace('_', '-')}.")


def _ask_for_all(settings: dict[str, SavedSetting]) -> dict[str, str]:
    """Ask for each setting, save the answers, and return the changed ones."""
    given = {}
    for name, setting in settings.items():
        if value := _ask(setting):
            given[name] = value
    return given


def _ask(setting: SavedSetting) -> str:
    """Ask until the answer is valid, and save it. Return it, or an empty string for the present value."""
    current = setting.current()
    while True:
        try:
            answer = click.prompt(f"{setting.question} [{current}]", default="", show_default=False).strip()
        except click.Abort:
            # Ctrl-C, as opposed to the end of a file or pipe.
            if is_terminal(sys.stdin):
                raise
            raise click.UsageError(
                "There is no terminal to ask on, or the input has ended. Pass options, for example "
                "`cloudknot configure --region eu-west-1`. `cloudknot configure -h` lists them."
            ) from None
        if answer in ("", current):
            return ""
        try:
            setting.save(answer)
        except CloudknotError as error:
            click.echo(str(error), err=True)
        else:
            return answer
