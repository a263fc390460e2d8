"""The commands that build environments ahead of their use, and that delete unused images."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudknot.cli.choice import choose_from, of_a_cloud
from cloudknot.cli.output import as_time, confirm, echo_table

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.aws.images.image_store import Image
    from cloudknot.image.docker_image import DockerImage

PLATFORMS = ("linux/amd64", "linux/arm64")
DAYS = 90
"""The default age in days of images that may be deleted, and of succeeded runs that need no image."""


@click.group("image")
def image() -> None:
    """Build images ahead of their use."""


@image.command()
@click.option("-r", "--requirements", multiple=True, metavar="FILE|LINE", help="A file, or a requirement. Repeatable.")
@click.option("--environment", type=click.Choice(["all"]), help="Instead: all packages that are installed here.")
@click.option("--base-image", help="The image to build on. Default: the slim image of this Python's version.")
@click.option("--apt-packages", "packages", multiple=True, metavar="NAMES", help="Debian packages, with commas.")
@click.option("--username", help="The user that jobs run as. Default: cloudknot-user.")
@click.option("--platform", default=PLATFORMS[0], show_default=True, help="One or both platforms, with a comma.")
@click.option("--repository", "--name", help="The image repository. Default: from the settings.")
@click.option("--dry-run", is_flag=True, help="Print the lock of one platform, and build nothing.")
@of_a_cloud
def build(
    requirements: tuple[str, ...],
    environment: str | None,
    base_image: str | None,
    packages: tuple[str, ...],
    username: str | None,
    platform: str,
    repository: str | None,
    dry_run: bool,
    cloud: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """Build the environment of jobs, so that no Knot has to.

    A Knot with the same requirements and options finds it, from any machine,
    and installs nothing. Use it in CI, or before a course begins.

    \b
    Examples:
      cloudknot image build -r requirements.txt
      cloudknot image build -r numpy==2.4.6 -r scipy --platform linux/arm64
      cloudknot image build -r requirements.txt --dry-run > pylock.toml
    """
    from cloudknot.image.docker_image import image_in, target_in
    from cloudknot.options import config

    if bool(requirements) == bool(environment):
        problem = "--environment cannot be combined with --requirements." if environment else "Nothing is to be built."
        raise click.UsageError(f"{problem} Pass requirements, for example -r requirements.txt, or --environment all.")
    platforms = _platforms(platform)
    if dry_run and len(platforms) > 1:
        raise click.UsageError("--dry-run prints one lock, and each platform has its own. Pass one --platform.")
    described = _image(requirements, environment, base_image, packages, username)
    chosen = choose_from(cloud, region, profile)
    store = chosen.image_store
    for name in platforms:
        login = chosen.repository(repository or config.ecr_repo()).login
        image = image_in(described, name, target=store.target if store else target_in(described, name, login))
        if dry_run:
            click.echo(image.lock.text(), nl=False)
        else:
            click.echo(_publish(chosen, image, repository))


def _platforms(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PLATFORMS]:
        raise click.UsageError(f"There is no platform {unknown[0]!r}. Pass {' or '.join(PLATFORMS)}, or both.")
    return list(dict.fromkeys(names)) or [PLATFORMS[0]]


def _image(
    requirements: tuple[str, ...],
    environment: str | None,
    base_image: str | None,
    packages: tuple[str, ...],
    username: str | None,
) -> DockerImage:
    from cloudknot.image.docker_image import DockerImage

    files = [text for text in requirements if Path(text).is_file()]
    if files and len(requirements) > 1:
        raise click.UsageError(f"{files[0]} is a file, and a file must be the only requirement. Pass only the file.")
    apt_packages = [name.strip() for text in packages for name in text.split(",") if name.strip()]
    return DockerImage(
        "environment",
        # An image needs a program. One of cloudknot's own functions would bring cloudknot into the environment.
        func=abs,
        base_image=base_image,
        username=username,
        requirements=files[0] if files else list(requirements) or None,
        environment=environment,
        apt_packages=apt_packages,
    )


def _publish(cloud: Cloud, image: Image, repository: str | None) -> str:
    """Publish an image unless it exists, and return a line about its environment."""
    from cloudknot.deploy.codebuild.choice import choose_builder
    from cloudknot.image.publish import publish_environment
    from cloudknot.options import config

    name = repository or config.ecr_repo()
    builder = choose_builder(cloud, image, name)
    uri = publish_environment(cloud, image, cloud.repository(name), builder)
    count = len(image.lock.packages) + len(image.wheels)
    return f"{uri}  {image.platform}, {count} packages"


@click.command(short_help="Delete images that no knot uses any more.")
@click.option(
    "--days", type=click.IntRange(min=0), default=DAYS, show_default=True, help="Keep images that are younger."
)
@click.option("--dry-run", is_flag=True, help="Show the images without deleting them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@of_a_cloud
def prune(days: int, dry_run: bool, yes: bool, cloud: str | None, region: str | None, profile: str | None) -> None:
    """Delete the images that no knot uses any more.

    The image for the next map of each knot stays. So do images that
    retry_failed or reduce may need: those of runs that have not succeeded,
    or are from the last 90 days (--days). Images with tags of your own stay, too.
    Results stay, and need no image. Old revisions of job definitions that
    name a deleted image are deregistered.
    """
    from cloudknot.deploy.account.prune import find_unused
    from cloudknot.deploy.account.prune import prune as delete
    from cloudknot.display.tables import size
    from cloudknot.run.jobs.needed import needed_revisions

    chosen, before = choose_from(cloud, region, profile), datetime.now(UTC) - timedelta(days=days)
    unused = find_unused(chosen, needed_revisions(chosen, before), before)
    if not unused:
        click.echo(f"No unused image in {chosen.place} is older than {days} days.")
        return
    rows = [
        (image.repository, ", ".join(image.tags), as_time(image.pushed), size(image.bytes)) for image in unused.images
    ]
    echo_table(("Repository", "Image", "Pushed (UTC)", "Size"), rows)
    # Images share layers, so the registry frees less than the sum.
    total = size(sum(image.bytes for image in unused.images))
    click.echo(
        f"To delete in {chosen.place}: {len(rows)} images of {total} at most, and {len(unused.revisions)} old "
        "revisions of job definitions."
    )
    if dry_run:
        click.echo("Nothing was deleted (--dry-run).")
        return
    if not yes:
        confirm("Delete these images?")
    # Somebody may have used one of them since the question.
    latest = find_unused(chosen, needed_revisions(chosen, before), before)
    delete(chosen, unused.also_in(latest), click.echo)
