"""The options with which a command chooses its cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from cloudknot.aws.cloud import Cloud, choose_cloud

Command = TypeVar("Command", bound=Callable[..., object])

CLOUD = click.option("--cloud", type=click.Choice(["aws", "local"]), help="The cloud. Default: from the settings.")
REGION = click.option("--region", help="The AWS region. Default: from the settings.")
PROFILE = click.option("--profile", help="The AWS profile. Default: from the settings.")


def of_a_cloud(command: Command) -> Command:
    """Return the command with the options that choose a cloud."""
    return CLOUD(REGION(PROFILE(command)))


def choose_from(cloud: str | None, region: str | None, profile: str | None) -> Cloud:
    """Return the cloud that the options choose, else the one of the settings."""
    chosen = choose_cloud(cloud, "--cloud")
    if not region and not profile:
        return chosen
    if not chosen.has_regions:
        raise click.UsageError(
            "--region and --profile are not available on the embedded cloud. Remove them, or pass --cloud aws."
        )
    return Cloud(region, profile)
